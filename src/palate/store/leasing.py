"""Who has which item at hand: no two people label the same one, unless it is meant for two.

A lease ends with the annotator's word, or when its time is over. It keeps others from the item and
is no right to vote: a word that comes later is kept all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson
import sqlalchemy as sa

from palate.store.database import Store
from palate.store.items import Item
from palate.store.schema import ASIDES, EVENT, LEASE, NAME

# Two servers at one PostgreSQL store: one leases, the other waits. SQLite has one writer anyway.
_LOCK = 7_205_760


def lease(
    store: Store, annotator: str, offered: Iterable[tuple[Item, int]], minutes: float
) -> Item | None:
    """Give the annotator the first of the items that is free, and return it.

    `offered` are items in the order of preference, with how many annotators each is meant for. An
    item is free while fewer others than that have it at hand, or have had their word on it.
    """
    now = datetime.now(UTC)
    until = (now + timedelta(minutes=minutes)).isoformat(timespec="seconds")
    with store.writing() as connection:
        _alone(connection)
        _end(connection, now)
        held: dict[str, set[str]] = defaultdict(set)
        for key, who in connection.execute(sa.select(LEASE.c.item, LEASE.c.annotator)):
            held[key].add(who)
        for item, wanted in offered:
            busy = held.get(item.key, set()) - {annotator}
            if len(busy) >= wanted:
                continue
            if len((busy | _spoken(connection, item)) - {annotator}) >= wanted:
                continue
            mine = LEASE.c.item == item.key, LEASE.c.annotator == annotator
            connection.execute(sa.delete(LEASE).where(*mine))
            values = {"item": item.key, "annotator": annotator, "until": until}
            taken = now.isoformat(timespec="milliseconds")
            connection.execute(sa.insert(LEASE).values(values | {"taken": taken}))
            return item
    return None


def leases_of(store: Store, annotator: str) -> list[str]:
    """The keys of what the annotator has at hand, in the order in which it was given."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    query = (
        sa.select(LEASE.c.item)
        .where(LEASE.c.annotator == annotator, LEASE.c.until >= now)
        .order_by(LEASE.c.taken, LEASE.c.item)
    )
    with store.reading() as connection:
        return list(connection.execute(query).scalars())


def release(store: Store, annotator: str, keys: Iterable[str]) -> None:
    """Let others have these."""
    listed = list(keys)
    if listed:
        with store.writing() as connection:
            mine = LEASE.c.annotator == annotator, LEASE.c.item.in_(listed)
            connection.execute(sa.delete(LEASE).where(*mine))


def _alone(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _end(connection: sa.Connection, now: datetime) -> None:
    over = LEASE.c.until < now.isoformat(timespec="seconds")
    connection.execute(sa.delete(LEASE).where(over))


def _spoken(connection: sa.Connection, item: Item) -> set[str]:
    """Whoever has judged these answers on a page; another server may have heard it."""
    stands: str | None = item.interaction
    if item.other is not None:
        named = sa.select(NAME.c.interaction).where(NAME.c.name == item.name)
        stands = connection.execute(named).scalar()
    query = sa.select(EVENT.c.by_whom, EVENT.c.said).where(
        EVENT.c.interaction == stands,
        EVENT.c.erased.is_(None),
        EVENT.c.by_whom.is_not(None),
        EVENT.c.kind.not_in((*ASIDES, "edit")),
    )
    return {
        who
        for who, said in connection.execute(query)
        if sorted(orjson.loads(said).get("shown", ())) == sorted(item.places)
    }
