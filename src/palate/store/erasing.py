"""Deletion: content is erased, a tombstone stays, and what held it is named.

A tombstone keeps the id, the hash of the content and the names, so that the same row, imported
again, stays deleted. SQLite overwrites what it frees (`secure_delete`), and the write-ahead log
is emptied; PostgreSQL frees the space at its next vacuum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from palate.store.adding import now
from palate.store.database import Store
from palate.store.schema import AWAITED, EVENT, INTERACTION, SIGHTING, SOURCE

_PART = 500


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
        erased = _erase(connection, keys)
        mine = EVENT.c.by_whom == user, EVENT.c.erased.is_(None)
        said = connection.execute(
            sa.update(EVENT).where(*mine).values(said=None, by_whom=None, erased=now())
        ).rowcount
    _settle(store)
    return replace(erased, events=erased.events + said)


def erase(store: Store, keys: Sequence[str]) -> Erased:
    """Erase these interactions; ids that are not there, or were erased, are passed over."""
    with store.writing() as connection:
        there: list[str] = []
        for part in _parts(keys):
            there += _keys(connection, INTERACTION.c.id.in_(part))
        erased = _erase(connection, there)
    _settle(store)
    return erased


def expire(store: Store, days: float) -> Erased:
    """Erase what is older than that, by the time of the row; rows without a time stay."""
    before = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    with store.writing() as connection:
        dated = INTERACTION.c.time.like("____-__-__T%"), INTERACTION.c.time < before
        erased = _erase(connection, _keys(connection, sa.and_(*dated)))
    if erased.interactions:
        _settle(store)
    return erased


def _keys(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[str]:
    query = sa.select(INTERACTION.c.id).where(condition, INTERACTION.c.erased.is_(None))
    return sorted(connection.execute(query).scalars())


def _erase(connection: sa.Connection, keys: Sequence[str]) -> Erased:
    when, events = now(), 0
    rows: set[tuple[str, int, str | None]] = set()
    for part in _parts(keys):
        rows |= _rows(connection, part)
        connection.execute(
            sa.update(INTERACTION)
            .where(INTERACTION.c.id.in_(part))
            .values(body=None, user_id=None, erased=when, hash=None)
        )
        connection.execute(
            sa.update(SIGHTING).where(SIGHTING.c.interaction.in_(part)).values(hash=None)
        )
        about = EVENT.c.interaction.in_(part), EVENT.c.erased.is_(None)
        ids = connection.execute(sa.select(EVENT.c.id).where(*about)).scalars().all()
        events += len(ids)
        connection.execute(
            sa.update(EVENT).where(*about).values(said=None, by_whom=None, hash=None, erased=when)
        )
        connection.execute(sa.delete(AWAITED).where(AWAITED.c.event.in_(ids)))
    hashes = frozenset(seal for _, _, seal in rows if seal is not None)
    places = frozenset((name, line) for name, line, _ in rows)
    return Erased(tuple(keys), hashes, places, events)


def _rows(connection: sa.Connection, part: Collection[str]) -> set[tuple[str, int, str | None]]:
    """(source, line, hash) of all rows that held these: snapshots name their rows by them."""
    found: set[tuple[str, int, str | None]] = set()
    for table, key in ((INTERACTION, "id"), (SIGHTING, "interaction"), (EVENT, "interaction")):
        query = (
            sa.select(SOURCE.c.name, table.c.line, table.c.hash)
            .join(SOURCE, SOURCE.c.id == table.c.source)
            .where(table.c[key].in_(part))
        )
        found |= {(name, line, seal) for name, line, seal in connection.execute(query)}
    return found


def _parts(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[at : at + _PART] for at in range(0, len(keys), _PART))


def _settle(store: Store) -> None:
    """Empty SQLite's write-ahead log, which still holds pages as they were."""
    if store.is_sqlite:
        with store.translated(), store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
