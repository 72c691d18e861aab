"""Rows into the store, each interaction once.

Two rows are the same interaction if they share an id (``openai:chatcmpl-…``); or if the same was
said in both, and neither two users nor a kind of id tell them apart: one has none, or they have
ids of different namespaces. So an export without ids, or of another logger, adds nothing to what is
there, and two users who asked and got the same stay two.

An event's id follows from what it says: of an interaction with ids, an answer has one thumb from
its own row, whichever export tells it, and a later export's word takes the place of an earlier
one's; without ids each row is a voice of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    users: dict[str, str | None]
    interactions: list[dict[str, Any]] = field(default_factory=list)
    sightings: list[dict[str, Any]] = field(default_factory=list)
    named: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    awaited: list[dict[str, str]] = field(default_factory=list)
    owned: dict[str, str] = field(default_factory=dict)
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
        _set_owners(connection, batch.owned)
        batch.added.events += _write_events(store, connection, batch.events)
        if batch.awaited:
            connection.execute(store.upsert(AWAITED), batch.awaited)
        batch.added.waiting = len({one["event"] for one in batch.awaited})
        emptied = _join_waiting(connection, [one["name"] for one in batch.named], batch.erased)
    if emptied:
        store.settle()
    return batch.added


def now() -> str:
    """The time, as the store writes it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _look_up(connection: sa.Connection, rows: Sequence[Row], source: int) -> _Batch:
    wanted = {name for row in rows for name in (*row.ids, *row.about)}
    names = dict(_found(connection, NAME, NAME.c.name, wanted))
    contents: dict[str, list[str]] = defaultdict(list)
    erased: set[str] = set()
    users: dict[str, str | None] = {}
    said = {row.content for row in rows if row.content is not None}
    kept = INTERACTION.c
    columns = (kept.id, kept.content, kept.erased, kept.user_id)
    found = list(_found(connection, columns, kept.content, said))
    for key, content, _, _ in found:
        contents[content].append(key)
    met = {*names.values()} - {key for keys in contents.values() for key in keys}
    for key, _, when, user in chain(found, _found(connection, columns, kept.id, met)):
        if when is not None:
            erased.add(key)
        users[key] = user
    spaces: dict[str, set[str]] = defaultdict(set)
    alike = [key for keys in contents.values() for key in keys]
    for name, key in _found(connection, NAME, NAME.c.interaction, alike):
        spaces[key].add(_space(name))
    for values in contents.values():
        values.sort()
    return _Batch(source, names, contents, spaces, erased, users)


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
        key = short_hash(_identity(batch, row))
        batch.interactions.append(
            {"id": key, "content": row.content, "body": row.body, "user_id": row.user, **where}
        )
        batch.contents.setdefault(row.content, []).append(key)
        batch.users[key] = row.user
        batch.added.new += 1
    elif key in batch.erased:
        batch.added.erased += 1
    else:
        batch.sightings.append({"interaction": key, **where})
        batch.added.known += 1
        if row.user is not None and batch.users.get(key) is None:
            batch.users[key] = batch.owned[key] = row.user
    for name in row.ids:  # a tombstone's too: what is said under this name is dropped with it
        batch.spaces.setdefault(key, set()).add(_space(name))
        if name not in batch.names:
            batch.names[name] = key
            batch.named.append({"name": name, "interaction": key})
    if key in batch.erased:
        return
    for event in row.events:
        batch.events.append(_event(batch, row, event, key))


def _known(batch: _Batch, row: Row) -> str | None:
    """The interaction that the row is another sighting of."""
    for name in row.ids:
        if name in batch.names:
            return batch.names[name]
    mine = {_space(name) for name in row.ids}
    for key in batch.contents.get(row.content or "", ()):
        owner = batch.users.get(key)
        strangers = owner is not None and row.user is not None and owner != row.user
        if not strangers and not mine & batch.spaces.get(key, set()):
            return key
    return None


def _identity(batch: _Batch, row: Row) -> str:
    """What a new interaction's id is the hash of: its first id; else what was said, and to whom."""
    if row.ids:
        return row.ids[0]
    assert row.content is not None
    alone = not batch.contents.get(row.content)
    return row.content if alone or row.user is None else f"{row.content} {row.user}"


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
    kind, said, by, time, slot = event
    # A voice of its own names what it speaks about, whether that is known yet or not. The row of
    # the interaction itself has one word on each thing, which its next export may change.
    about = row.voice or key or row.about[0]
    word = slot if row.voice is None else said
    identity = short_hash("\x00".join((about, kind, word, by or "")))
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
    last = {event["id"]: event for event in events}
    columns = (EVENT.c.id, EVENT.c.said, EVENT.c.erased)
    there = {key: (said, gone) for key, said, gone in _found(connection, columns, EVENT.c.id, last)}
    fresh = [event for key, event in last.items() if key not in there]
    if fresh:
        connection.execute(store.upsert(EVENT), fresh)
    changed = [
        {"key": key, "now_said": event["said"], "at": event["line"], "of": event["source"]}
        for key, event in last.items()
        if key in there and there[key] != (event["said"], None) and there[key][1] is None
    ]
    if changed:
        connection.execute(
            sa.update(EVENT)
            .where(EVENT.c.id == sa.bindparam("key"))
            .values(
                said=sa.bindparam("now_said"), line=sa.bindparam("at"), source=sa.bindparam("of")
            ),
            changed,
        )
    return len(fresh) + len(changed)


def _set_owners(connection: sa.Connection, owned: Mapping[str, str]) -> None:
    """Note whose the interactions are that an earlier row, without a user, had brought."""
    if owned:
        connection.execute(
            sa.update(INTERACTION)
            .where(INTERACTION.c.id == sa.bindparam("key"), INTERACTION.c.user_id.is_(None))
            .values(user_id=sa.bindparam("user")),
            [{"key": key, "user": user} for key, user in sorted(owned.items())],
        )


def _join_waiting(connection: sa.Connection, names: Sequence[str], erased: Collection[str]) -> bool:
    """Give the events that waited for these names their interaction; whether any was emptied.

    What was said of an erased interaction is erased with it.
    """
    if not names or not connection.execute(sa.select(AWAITED.c.name).limit(1)).first():
        return False
    awaited = list(_found(connection, AWAITED, AWAITED.c.name, names))
    if not awaited:
        return False
    homes = dict(_found(connection, NAME, NAME.c.name, {name for name, _ in awaited}))
    connection.execute(
        sa.update(EVENT)
        .where(EVENT.c.id == sa.bindparam("event"), EVENT.c.interaction.is_(None))
        .values(interaction=sa.bindparam("home")),
        [{"event": event, "home": homes[name]} for name, event in awaited],
    )
    gone = [{"event": event} for name, event in awaited if homes[name] in erased]
    if gone:
        connection.execute(
            sa.update(EVENT)
            .where(EVENT.c.id == sa.bindparam("event"))
            .values(said=None, by_whom=None, erased=now()),
            gone,
        )
    joined = {event for _, event in awaited}
    connection.execute(
        sa.delete(AWAITED).where(AWAITED.c.event == sa.bindparam("event")),
        [{"event": event} for event in sorted(joined)],
    )
    return bool(gone)
