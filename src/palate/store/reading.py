"""The store's interactions as examples, each with the signals about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import orjson
import sqlalchemy as sa

from palate.records import Example, Provenance, Signal, canonical_json
from palate.store.database import Store
from palate.store.rows import example_of, loads
from palate.store.schema import ASIDES, AWAITED, EVENT, INTERACTION, NAME, SIGHTING, SOURCE

_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Stored:
    """One interaction: its id, what was said, by whom, and the signals about it in their order."""

    id: str
    example: Example
    signals: tuple[Signal, ...]
    user: str | None


def stored(store: Store) -> Iterator[Stored]:
    """All interactions that are not erased, in the order of time, then of id.

    The order is a function of the content: stores that were filled in another order give the
    same. Memory is bounded by a batch.
    """
    # PostgreSQL sorts by the language of the database unless it is told not to.
    collate = "BINARY" if store.is_sqlite else "C"
    keys = (INTERACTION.c.time.collate(collate), INTERACTION.c.id.collate(collate))
    query = (
        sa.select(INTERACTION)
        .where(INTERACTION.c.erased.is_(None))
        .order_by(keys[0].nulls_last(), keys[1])
        .execution_options(yield_per=_BATCH)
    )
    with store.reading() as connection:
        sources = dict(connection.execute(sa.select(SOURCE.c.id, SOURCE.c.name)).all())
        for part in connection.execute(query).partitions():
            yield from _joined(connection, part, sources)


def interactions(store: Store) -> list[str]:
    """The ids of all interactions that are not erased, in the order of `stored`."""
    collate = "BINARY" if store.is_sqlite else "C"
    keys = (INTERACTION.c.time.collate(collate), INTERACTION.c.id.collate(collate))
    query = sa.select(INTERACTION.c.id).where(INTERACTION.c.erased.is_(None))
    with store.reading() as connection:
        ordered = query.order_by(keys[0].nulls_last(), keys[1])
        return list(connection.execute(ordered).scalars())


def stored_of(store: Store, keys: Sequence[str]) -> list[Stored]:
    """Those of some interactions that are not erased by now, in the order of the keys."""
    query = sa.select(INTERACTION).where(INTERACTION.c.id.in_(keys), INTERACTION.c.erased.is_(None))
    with store.reading() as connection:
        sources = dict(connection.execute(sa.select(SOURCE.c.id, SOURCE.c.name)).all())
        found = {
            one.id: one for one in _joined(connection, connection.execute(query).all(), sources)
        }
    return [found[key] for key in keys if key in found]


def waiting_signals(store: Store) -> list[Signal]:
    """The signals whose interaction has not come, with the names by which they ask for it."""
    query = (
        sa.select(EVENT, SOURCE.c.name.label("origin"))
        .join(SOURCE, SOURCE.c.id == EVENT.c.source)
        .where(EVENT.c.interaction.is_(None), EVENT.c.erased.is_(None))
        .order_by(EVENT.c.source, EVENT.c.line, EVENT.c.id)
    )
    with store.reading() as connection:
        about: dict[str, list[str]] = defaultdict(list)
        for name, event in connection.execute(sa.select(AWAITED).order_by(AWAITED.c.name)):
            about[event].append(name)
        found = []
        for event in connection.execute(query):
            said = Signal.from_dict(loads(event.said), tuple(about[event.id]))
            where = Provenance(event.origin, event.line, event.time, event.hash)
            found.append(replace(said, provenance=(where,)))
    return found


def find(store: Store, beginning: str) -> Stored:
    """The interaction whose id, or name elsewhere, is or begins with the text.

    Raises `ValueError` if there is none, or more than one.
    """
    if not beginning:
        raise ValueError("an id, or its beginning, cannot be empty: see palate data search")
    with store.reading() as connection:
        named = connection.execute(
            sa.select(NAME.c.interaction).where(NAME.c.name == beginning)
        ).scalar()
        query = sa.select(INTERACTION).limit(2)
        if named is not None:
            query = query.where(INTERACTION.c.id == named)
        else:
            query = query.where(INTERACTION.c.id.startswith(beginning, autoescape=True))
        found = connection.execute(query).all()
        if len(found) != 1:
            problem = "several interactions begin" if found else "no interaction begins"
            raise ValueError(
                f"{problem} with '{beginning}' in {store.name}: see palate data search"
            )
        if found[0].erased is not None:
            raise ValueError(f"the interaction {found[0].id} was erased on {found[0].erased}")
        sources = dict(connection.execute(sa.select(SOURCE.c.id, SOURCE.c.name)).all())
        return next(_joined(connection, found, sources))


def search(store: Store, words: str, limit: int) -> list[Stored]:
    """The latest interactions of which a message holds the words, whatever their case."""
    # The text stands in JSON: what is looked for is escaped as it is there, and what was found is
    # looked at again, because the JSON has words of its own.
    pattern = orjson.dumps(words).decode()[1:-1]
    query = (
        sa.select(INTERACTION)
        .where(
            INTERACTION.c.erased.is_(None), INTERACTION.c.body.icontains(pattern, autoescape=True)
        )
        .order_by(INTERACTION.c.time.desc().nulls_last(), INTERACTION.c.id)
        .execution_options(yield_per=_BATCH)
    )
    found: list[Stored] = []
    with store.reading() as connection:
        sources = dict(connection.execute(sa.select(SOURCE.c.id, SOURCE.c.name)).all())
        for part in connection.execute(query).partitions():
            found += [one for one in _joined(connection, part, sources) if _says(one, words)]
            if len(found) >= limit:
                break
    return found[:limit]


def _says(one: Stored, words: str) -> bool:
    answers = (m for c in one.example.completions for m in c.messages)
    return any(words.lower() in m.content.lower() for m in (*one.example.prompt, *answers))


def counts(store: Store) -> dict[str, int]:
    """Interactions, those erased, and events by kind, those that wait for their answer apart."""
    with store.reading() as connection:
        total = connection.execute(sa.select(sa.func.count()).select_from(INTERACTION)).scalar_one()
        alive = connection.execute(
            sa.select(sa.func.count()).where(INTERACTION.c.erased.is_(None))
        ).scalar_one()
        kinds = connection.execute(
            sa.select(EVENT.c.kind, EVENT.c.interaction.is_(None), sa.func.count())
            .where(EVENT.c.erased.is_(None))
            .group_by(EVENT.c.kind, EVENT.c.interaction.is_(None))
        ).all()
    found = {"interactions": alive, "erased": total - alive}
    for kind, waits, number in sorted(kinds):
        name = "waiting" if waits else kind
        found[name] = found.get(name, 0) + number
    return found


def _joined(
    connection: sa.Connection, rows: Sequence[sa.Row[tuple[object, ...]]], sources: dict[int, str]
) -> Iterator[Stored]:
    """The rows with their further sightings and their signals."""
    keys = [row.id for row in rows]
    sightings: dict[str, list[Provenance]] = defaultdict(list)
    order = (SIGHTING.c.source, SIGHTING.c.line)
    for one in connection.execute(_of(SIGHTING, SIGHTING.c.interaction, keys).order_by(*order)):
        where = Provenance(sources[one.source], one.line, one.time, one.hash)
        sightings[one.interaction].append(where)
    signals: dict[str, list[Signal]] = defaultdict(list)
    heard = EVENT.c.erased.is_(None), EVENT.c.kind.not_in(ASIDES)
    asked = _of(EVENT, EVENT.c.interaction, keys).where(*heard)
    for event in connection.execute(asked):
        where = Provenance(sources[event.source], event.line, event.time, event.hash)
        said = Signal.from_dict(loads(event.said))
        signals[event.interaction].append(replace(said, provenance=(where,)))
    for row in rows:
        first = Provenance(sources[row.source], row.line, row.time, row.hash)
        example = example_of(row.body, (first, *sightings[row.id]))
        mine = sorted(signals[row.id], key=_order)
        yield Stored(row.id, example, tuple(mine), row.user_id)


def _of(
    table: sa.Table, column: sa.Column[str], keys: Sequence[str]
) -> sa.Select[tuple[object, ...]]:
    return sa.select(table).where(column.in_(keys))


def _order(signal: Signal) -> tuple[str, str, str]:
    """By time, then by what was said: the order does not depend on which was stored first."""
    where = signal.provenance[0]
    said = signal.to_dict()
    try:
        text = orjson.dumps(said).decode()
    except TypeError:  # an integer of more than 64 bits
        text = canonical_json(said)
    return where.time or "", text, where.hash or ""
