"""Deletion: content is erased, a tombstone stays, and what held it is named.

A tombstone keeps the id, the names, its trace's too, and the hashes of content and rows, so that
the same row, imported again, stays deleted, what is said of it later is dropped, and what else
holds it is found. SQLite overwrites what it frees (`secure_delete`), and its write-ahead log is
emptied; PostgreSQL frees the space at a vacuum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import sqlalchemy as sa

from palate.store.adding import now
from palate.store.database import Store
from palate.store.items import joined_of
from palate.store.schema import AWAITED, EVENT, INTERACTION, LEASE, NAME, SIGHTING, SOURCE

_PART = 500
_TRACE = ":trace/"
_TRACED = ("langfuse",)  # loggers whose feedback may be about a trace


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased: ids of interactions, and a count of events.

    `hashes` and `places` (source and line) are those of the rows that held them, by which they
    are found in snapshots.
    """

    interactions: tuple[str, ...] = ()
    hashes: frozenset[str] = frozenset()
    places: frozenset[tuple[str, int]] = frozenset()
    events: int = 0


def erase_user(store: Store, user: str) -> Erased:
    """Erase all interactions of an end user, and what that user said about others'."""
    with store.writing() as connection:
        keys = _keys(connection, INTERACTION.c.user_id == user)
        erased = _erase(store, connection, keys)
        mine = EVENT.c.by_whom == user, EVENT.c.erased.is_(None)
        rows = _rows_of(connection, EVENT, *mine)
        said = connection.execute(
            sa.update(EVENT).where(*mine).values(said=None, by_whom=None, erased=now())
        ).rowcount
        connection.execute(sa.delete(LEASE).where(LEASE.c.annotator == user))
    store.settle()
    return Erased(
        erased.interactions,
        erased.hashes | _hashes(rows),
        erased.places | _places(rows),
        erased.events + said,
    )


def erase(store: Store, keys: Sequence[str]) -> Erased:
    """Erase these interactions; ids that are not there, or were erased, are passed over."""
    with store.writing() as connection:
        there: list[str] = []
        for part in _parts(keys):
            there += _keys(connection, INTERACTION.c.id.in_(part))
        erased = _erase(store, connection, there)
    store.settle()
    return erased


def expire(store: Store, days: float) -> Erased:
    """Erase what is older than that, by the time of the row; rows without a time stay."""
    before = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    with store.writing() as connection:
        dated = INTERACTION.c.time.like("____-__-__T%"), INTERACTION.c.time < before
        erased = _erase(store, connection, _keys(connection, sa.and_(*dated)))
    if erased.interactions:
        store.settle()
    return erased


def everything_erased(store: Store) -> Erased:
    """All that was ever erased: what holds it is found again, where cleaning was cut short."""
    with store.reading() as connection:
        gone = sa.select(INTERACTION.c.id).where(INTERACTION.c.erased.is_not(None))
        rows = _rows_of(connection, INTERACTION, INTERACTION.c.erased.is_not(None))
        rows |= _rows_of(connection, SIGHTING, SIGHTING.c.interaction.in_(gone))
        rows |= _rows_of(connection, EVENT, EVENT.c.erased.is_not(None))
        keys = tuple(sorted(connection.execute(gone).scalars()))
    return Erased(keys, _hashes(rows), _places(rows))


def _keys(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[str]:
    query = sa.select(INTERACTION.c.id).where(condition, INTERACTION.c.erased.is_(None))
    return sorted(connection.execute(query).scalars())


def _erase(store: Store, connection: sa.Connection, keys: Sequence[str]) -> Erased:
    when, events = now(), 0
    rows: set[tuple[str, int, str | None]] = set()
    keys = sorted({*keys, *joined_of(connection, keys)})  # what was made of them, for a vote
    _end_leases(connection, keys)
    for part in _parts(keys):
        rows |= _rows(connection, part)
        traces = _traces(connection, part)
        waiting = _about_traces(connection, {key for key, _ in traces})
        _name_traces(store, connection, traces)
        connection.execute(
            sa.update(INTERACTION)
            .where(INTERACTION.c.id.in_(part))
            .values(body=None, user_id=None, erased=when)
        )
        about = EVENT.c.interaction.in_(part), EVENT.c.erased.is_(None)
        ids = [*connection.execute(sa.select(EVENT.c.id).where(*about)).scalars(), *waiting]
        events += len(ids)
        for some in _parts(ids):
            there = EVENT.c.id.in_(some)
            rows |= _rows_of(connection, EVENT, there)
            connection.execute(
                sa.update(EVENT).where(there).values(said=None, by_whom=None, erased=when)
            )
            connection.execute(sa.delete(AWAITED).where(AWAITED.c.event.in_(some)))
    return Erased(tuple(keys), _hashes(rows), _places(rows), events)


def _end_leases(connection: sa.Connection, keys: Collection[str]) -> None:
    """Nobody has these at hand any more; a lease's item is named after its interactions."""
    gone = set(keys)
    listed = connection.execute(sa.select(LEASE.c.item).distinct()).scalars()
    ended = [item for item in listed if gone & {*item.partition(".")[0].split("+")}]
    for some in _parts(ended):
        connection.execute(sa.delete(LEASE).where(LEASE.c.item.in_(some)))


def _traces(connection: sa.Connection, part: Collection[str]) -> list[tuple[str, str]]:
    """(trace, interaction) of those of these interactions that a logger put into a trace."""
    query = sa.select(INTERACTION.c.id, INTERACTION.c.body).where(INTERACTION.c.id.in_(part))
    tags = ((key, orjson.loads(body).get("tags", {})) for key, body in connection.execute(query))
    return sorted((one["trace_id"], key) for key, one in tags if "trace_id" in one)


def _about_traces(connection: sa.Connection, traces: Collection[str]) -> list[str]:
    """The events that wait and are about these traces."""
    named = sa.select(AWAITED.c.name, AWAITED.c.event).where(AWAITED.c.name.contains(_TRACE))
    waiting = connection.execute(named).all()
    return sorted({event for name, event in waiting if name.partition(_TRACE)[2] in traces})


def _name_traces(
    store: Store, connection: sa.Connection, traces: Iterable[tuple[str, str]]
) -> None:
    """Let the tombstones have the traces' names, so that what is said of those later is dropped.

    A trace that is an interaction itself keeps its name.
    """
    names = [
        {"name": f"{space}{_TRACE}{key}", "interaction": interaction}
        for key, interaction in traces
        for space in _TRACED
    ]
    if names:
        connection.execute(store.upsert(NAME), names)


def _rows(connection: sa.Connection, part: Collection[str]) -> set[tuple[str, int, str | None]]:
    """(source, line, hash) of all rows that held these: snapshots name their rows by them."""
    found: set[tuple[str, int, str | None]] = set()
    for table, key in ((INTERACTION, "id"), (SIGHTING, "interaction"), (EVENT, "interaction")):
        found |= _rows_of(connection, table, table.c[key].in_(part))
    return found


def _rows_of(
    connection: sa.Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]
) -> set[tuple[str, int, str | None]]:
    query = (
        sa.select(SOURCE.c.name, table.c.line, table.c.hash)
        .join(SOURCE, SOURCE.c.id == table.c.source)
        .where(*conditions)
    )
    return {(name, line, seal) for name, line, seal in connection.execute(query)}


def _hashes(rows: Iterable[tuple[str, int, str | None]]) -> frozenset[str]:
    return frozenset(seal for _, _, seal in rows if seal is not None)


def _places(rows: Iterable[tuple[str, int, str | None]]) -> frozenset[tuple[str, int]]:
    return frozenset((name, line) for name, line, _ in rows)


def _parts(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[at : at + _PART] for at in range(0, len(keys), _PART))
