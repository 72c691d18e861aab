"""Rows into the store, each interaction once.

Two rows are the same interaction if they share an id (``openai:chatcmpl-…``); or if the same was
said in both, and no kind of id tells them apart: one has none, or they have ids of different
namespaces. So an export without ids, or of another logger, adds nothing to what is there, and two
users who asked and got the same, each under an id, stay two.

An event's id follows from what it says: of an interaction with ids, an answer has one thumb from
its own row, whichever export tells it; without ids each row is a voice of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import sqlalchemy as sa

from palate.store.database import Store
from palate.store.rows import EventRow, Row, short_hash
from palate.store.schema import AWAITED, EVENT, INTERACTION, NAME, SIGHTING

_ASKED = 500  # values in one query: SQLite and PostgreSQL both take many more


@dataclass(slots=True)
class Added:
    """What came of some rows: interactions that are new or were known, and events."""

    new: int = 0
    known: int = 0
    erased: int = 0
    events: int = 0
    waiting: int = 0

    def __iadd__(self, other: Added) -> Added:
        """The sums."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(slots=True)
class _Batch:
    """What is to be written in one transaction, and what its rows may meet in the store."""

    source: int
    names: dict[str, str]
    contents: dict[str, list[str]]
    spaces: dict[str, set[str]]
    erased: set[str]
    interactions: list[dict[str, Any]] = field(default_factory=list)
    sightings: list[dict[str, Any]] = field(default_factory=list)
    named: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    awaited: list[dict[str, str]] = field(default_factory=list)
    added: Added = field(default_factory=Added)


def add_rows(store: Store, rows: Sequence[Row], source: int) -> Added:
    """Add rows in one transaction; all of them are on the disk when this returns."""
    with store.writing() as connection:
        batch = _look_up(connection, rows, source)
        for row in rows:
            if row.content is None:
                _take_signal(batch, row)
            else:
                _take_interaction(batch, row)
        for table, values in (
            (INTERACTION, batch.interactions),
            (SIGHTING, batch.sightings),
            (NAME, batch.named),
        ):
            if values:
                connection.execute(store.upsert(table), values)
        batch.added.events += _write_events(store, connection, batch.events)
        if batch.awaited:
            connection.execute(store.upsert(AWAITED), batch.awaited)
        batch.added.waiting = len({one["event"] for one in batch.awaited})
        _join_waiting(connection, [one["name"] for one in batch.named])
    return batch.added


def now() -> str:
    """The time, as the store writes it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _look_up(connection: sa.Connection, rows: Sequence[Row], source: int) -> _Batch:
    wanted = {name for row in rows for name in (*row.ids, *row.about)}
    names = dict(_found(connection, NAME, NAME.c.name, wanted))
    contents: dict[str, list[str]] = defaultdict(list)
    erased: set[str] = set()
    said = {row.content for row in rows if row.content is not None}
    columns = (INTERACTION.c.id, INTERACTION.c.content, INTERACTION.c.erased)
    for key, content, when in _found(connection, columns, INTERACTION.c.content, said):
        contents[content].append(key)
        if when is not None:
            erased.add(key)
    met = {*names.values()} - {key for keys in contents.values() for key in keys}
    for key, _, when in _found(connection, columns, INTERACTION.c.id, met):
        if when is not None:
            erased.add(key)
    spaces: dict[str, set[str]] = defaultdict(set)
    alike = [key for keys in contents.values() for key in keys]
    for name, key in _found(connection, NAME, NAME.c.interaction, alike):
        spaces[key].add(_space(name))
    for values in contents.values():
        values.sort()
    return _Batch(source, names, contents, spaces, erased)


def _found(
    connection: sa.Connection,
    what: sa.Table | tuple[sa.Column[Any], ...],
    column: sa.Column[Any],
    values: Collection[Any],
) -> Iterable[Any]:
    """The rows whose `column` is one of the values, asked for in parts."""
    listed = sorted(values)
    columns = what if isinstance(what, tuple) else tuple(what.c)
    query = sa.select(*columns).where(column.in_(sa.bindparam("values", expanding=True)))
    parts = (listed[at : at + _ASKED] for at in range(0, len(listed), _ASKED))
    return chain.from_iterable(connection.execute(query, {"values": part}) for part in parts)


def _take_interaction(batch: _Batch, row: Row) -> None:
    assert row.content is not None
    key = _known(batch, row)
    where = {"source": batch.source, "line": row.line, "time": row.time, "hash": row.hash}
    if key is None:
        key = short_hash(row.ids[0] if row.ids else row.content)
        batch.interactions.append(
            {"id": key, "content": row.content, "body": row.body, "user_id": row.user, **where}
        )
        batch.contents.setdefault(row.content, []).append(key)
        batch.added.new += 1
    elif key in batch.erased:
        batch.added.erased += 1
        return
    else:
        batch.sightings.append({"interaction": key, **where})
        batch.added.known += 1
    for name in row.ids:
        batch.spaces.setdefault(key, set()).add(_space(name))
        if name not in batch.names:
            batch.names[name] = key
            batch.named.append({"name": name, "interaction": key})
    for event in row.events:
        batch.events.append(_event(batch, row, event, key))


def _known(batch: _Batch, row: Row) -> str | None:
    """The interaction that the row is another sighting of."""
    for name in row.ids:
        if name in batch.names:
            return batch.names[name]
    mine = {_space(name) for name in row.ids}
    for key in batch.contents.get(row.content or "", ()):
        if not mine & batch.spaces.get(key, set()):
            return key
    return None


def _space(name: str) -> str:
    """The kind of an id: `langfuse:trace` of `langfuse:trace/42`, `openai` of `openai:cc-8x`."""
    space, _, rest = name.partition(":")
    kind, slash, _ = rest.partition("/")
    return f"{space}:{kind}" if slash else space


def _take_signal(batch: _Batch, row: Row) -> None:
    key = next((batch.names[name] for name in row.about if name in batch.names), None)
    if key in batch.erased:
        batch.added.erased += 1
        return
    for event in row.events:
        written = _event(batch, row, event, key)
        batch.events.append(written)
        if key is None:
            batch.awaited += [{"name": name, "event": written["id"]} for name in row.about]


def _event(batch: _Batch, row: Row, event: EventRow, key: str | None) -> dict[str, Any]:
    kind, said, by, time = event
    # A voice of its own names what it speaks about, whether that is known yet or not.
    about = row.voice or key or row.about[0]
    identity = short_hash("\x00".join((about, kind, said, by or "")))
    return {
        "id": identity,
        "interaction": key,
        "kind": kind,
        "said": said,
        "by_whom": by,
        "time": time,
        "source": batch.source,
        "line": row.line,
        "hash": row.hash,
    }


def _write_events(store: Store, connection: sa.Connection, events: list[dict[str, Any]]) -> int:
    """Insert those that are not there yet; how many that were."""
    if not events:
        return 0
    ids = {event["id"] for event in events}
    there = {found[0] for found in _found(connection, (EVENT.c.id,), EVENT.c.id, ids)}
    fresh = {event["id"]: event for event in events if event["id"] not in there}
    if fresh:
        connection.execute(store.upsert(EVENT), list(fresh.values()))
    return len(fresh)


def _join_waiting(connection: sa.Connection, names: Sequence[str]) -> None:
    """Give the events that waited for these names their interaction."""
    if not names or not connection.execute(sa.select(AWAITED.c.name).limit(1)).first():
        return
    awaited = list(_found(connection, AWAITED, AWAITED.c.name, names))
    if not awaited:
        return
    homes = dict(_found(connection, NAME, NAME.c.name, {name for name, _ in awaited}))
    connection.execute(
        sa.update(EVENT)
        .where(EVENT.c.id == sa.bindparam("event"), EVENT.c.interaction.is_(None))
        .values(interaction=sa.bindparam("home")),
        [{"event": event, "home": homes[name]} for name, event in awaited],
    )
    joined = {event for _, event in awaited}
    connection.execute(
        sa.delete(AWAITED).where(AWAITED.c.event == sa.bindparam("event")),
        [{"event": event} for event in sorted(joined)],
    )
