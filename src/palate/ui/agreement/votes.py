"""The votes in the store, read from its events alone: no interaction is parsed for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from palate.judge.annotators import BOTH_BAD, DOWN, FIRST, SECOND, TIE, UP, Vote
from palate.records import ADJUDICATED
from palate.store.database import Store
from palate.store.schema import EVENT

KINDS = ("vote", "tie", "thumb")
CLEARLY = 0.875
"""From here on a preference is a clear one: half way between slightly (0.75) and clearly (1)."""

State = tuple[int, str | None, int]


@dataclass(frozen=True, slots=True)
class Said:
    """One event: who said what of which answers (`places`, the lower index first), and when."""

    interaction: str
    places: tuple[int, ...]
    vote: Vote
    strength: float | None
    comment: str | None
    time: str | None

    @property
    def item(self) -> str:
        """The item's name: the interaction and its answers."""
        return self.vote.item


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes on two answers and on single ones, in the order of time; the settled items.

    `unnamed` are events without an author, which are in neither list.
    """

    pairs: list[Said] = field(default_factory=list)
    singles: list[Said] = field(default_factory=list)
    settled: dict[str, Said] = field(default_factory=dict)
    unnamed: int = 0


def item_key(interaction: str, places: tuple[int, ...]) -> str:
    """ID.0 is an answer of the interaction ID, ID.0.2 two of them."""
    return ".".join((interaction, *map(str, places)))


def state_of(store: Store) -> State:
    """What changes whenever a vote is given, changed or deleted: cheap to ask for."""
    count = sa.func.count()
    query = sa.select(count, sa.func.max(EVENT.c.time), sa.func.count(EVENT.c.erased))
    with store.reading() as connection:
        number, latest, erased = connection.execute(query.select_from(EVENT)).one()
    return number, latest, erased


def read_votes(store: Store) -> Votes:
    """All votes, ties and thumbs of which the answer is known and that are not deleted."""
    there = EVENT.c.kind.in_(KINDS), EVENT.c.interaction.is_not(None), EVENT.c.erased.is_(None)
    columns = (EVENT.c.interaction, EVENT.c.kind, EVENT.c.said, EVENT.c.by_whom, EVENT.c.time)
    query = (
        sa.select(*columns)
        .where(*there, EVENT.c.by_whom.is_not(None))
        .order_by(EVENT.c.time, EVENT.c.id)
    )
    nameless = sa.select(sa.func.count()).where(*there, EVENT.c.by_whom.is_(None))
    with store.reading() as connection:
        rows = connection.execute(query).all()
        unnamed = connection.execute(nameless).scalar_one()
    raw = [(row, orjson.loads(row.said)) for row in rows]
    voted = _voted(raw)
    found = Votes(unnamed=unnamed)
    for row, said in raw:
        places = _places(row.kind, said) or voted.get(row.interaction)
        if places is None:
            continue
        one = _said(row, said, places)
        if said.get("name") == ADJUDICATED:
            found.settled[one.item] = one
        else:
            (found.singles if row.kind == "thumb" else found.pairs).append(one)
    return found


def _voted(raw: list[tuple[Any, dict[str, Any]]]) -> dict[str, tuple[int, ...]]:
    """The answers of interactions of which two, and only two, were ever compared.

    A vote that all are bad names no answers unless it was given on a page.
    """
    found: dict[str, set[tuple[int, ...]]] = {}
    for row, said in raw:
        places = _places(row.kind, said) if row.kind != "thumb" else None
        if places is not None:
            found.setdefault(row.interaction, set()).add(places)
    return {key: next(iter(every)) for key, every in found.items() if len(every) == 1}


def _places(kind: str, said: dict[str, Any]) -> tuple[int, ...] | None:
    choice, over, shown = said.get("choice"), said.get("over"), said.get("shown") or ()
    if kind == "thumb":
        return None if choice is None else (choice,)
    if choice is not None and over is not None and choice != over:
        return tuple(sorted((choice, over)))
    return tuple(sorted(shown)) if len(set(shown)) == 2 else None


def _said(row: Any, said: dict[str, Any], places: tuple[int, ...]) -> Said:
    strength = said.get("strength")
    step: float | None = None
    if row.kind == "thumb":
        word = UP if said.get("label") else DOWN
    elif row.kind == "tie":
        word, step = TIE, 0.0
    elif said.get("choice") is None:
        word = BOTH_BAD
    else:
        word = FIRST if said["choice"] == places[0] else SECOND
        step = None if strength is None else (1.0 if strength >= CLEARLY else 0.5)
        step = -step if step is not None and word == SECOND else step
    shown: list[int] = said.get("shown") or []
    left = (FIRST if shown[0] == places[0] else SECOND) if len(shown) == 2 else None
    vote = Vote(item_key(row.interaction, places), row.by_whom, word, step, left)
    return Said(row.interaction, places, vote, strength, said.get("comment"), row.time)
