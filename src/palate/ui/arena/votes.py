"""What a vote in the arena says, its place in the store, and how a pairing stands by now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
import sqlalchemy as sa

from palate.evaluate.shares import clustered_interval
from palate.records import Completion, Example, Message, Signal
from palate.store.database import Store
from palate.store.remarks import keep
from palate.store.schema import EVENT, INTERACTION
from palate.store.schema import SOURCE as SOURCES
from palate.store.voting import CLEARLY, SLIGHTLY

SOURCE = "palate arena"
_SHOWN = (0, 1)  # the answers are stored in the order in which they stood
CHOICES = ("1", "2", "3", "4", "5", "bad")
"""From clearly the left one, over a tie, to clearly the right one; and both are bad."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contender of that name said, and whether it was cut off at its limit."""

    name: str
    text: str
    cut: bool = False

    def completion(self) -> Completion:
        """The same as the store keeps it."""
        finish = "length" if self.cut else "stop"
        return Completion((Message("assistant", self.text),), self.name, finish_reason=finish)


@dataclass(frozen=True, slots=True)
class Tally:
    """How `name` stands against `other`: votes of all people in the arena.

    `rate` is the share of votes for it, a tie being half a vote and both-bad none, with a 95 %
    interval in which conversations are resampled whole; None without such votes.
    """

    name: str
    other: str
    wins: int
    ties: int
    losses: int
    bad: int
    rate: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)


def goes_on(choice: str) -> int | None:
    """Which answer (0 left, 1 right) the conversation goes on from; a tie: the left one."""
    return None if choice == "bad" else 0 if choice in {"1", "2", "3"} else 1


def store_vote(
    store: Store,
    prompt: tuple[Message, ...],
    answers: tuple[Answer, Answer],
    choice: str,
    by: str,
    conversation: str,
) -> str:
    """Keep both answers, left first as they were shown, and the vote on them.

    On the disk when this returns the interaction's name. Raises `ValueError` for a choice that
    is none.
    """
    told = tuple(answer.completion() for answer in answers)
    tags = {"conversation": f"arena-{conversation}", "app": "palate arena"}
    return keep(store, SOURCE, Example(prompt, told, tags=tags), _signal(choice, by))


def tally(store: Store, name: str, other: str) -> Tally:
    """How the pairing stands by the votes in the store, whichever side each was on."""
    counts = {"win": 0, "tie": 0, "loss": 0, "bad": 0}
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for conversation, worth in _votes(store, name, other):
        counts[worth] += 1
        if worth != "bad":
            groups[conversation][0] += {"win": 1.0, "tie": 0.5, "loss": 0.0}[worth]
            groups[conversation][1] += 1
    rate = low = high = None
    if groups:
        sums_GC = np.array([groups[key] for key in sorted(groups)], dtype=np.float64)
        rate = float(sums_GC[:, 0].sum() / sums_GC[:, 1].sum())
        low, high = clustered_interval(sums_GC, seed=0)
    return Tally(
        *(name, other, counts["win"], counts["tie"], counts["loss"], counts["bad"]), rate, low, high
    )


def _votes(store: Store, name: str, other: str) -> Iterator[tuple[str, str]]:
    """(conversation, win, tie, loss or bad of `name`) of each vote on this pairing."""
    query = (
        sa.select(EVENT.c.kind, EVENT.c.said, INTERACTION.c.body)
        .join(INTERACTION, INTERACTION.c.id == EVENT.c.interaction)
        .join(SOURCES, SOURCES.c.id == EVENT.c.source)
        .where(
            SOURCES.c.name == SOURCE,
            EVENT.c.erased.is_(None),
            INTERACTION.c.erased.is_(None),
            EVENT.c.kind.in_(("vote", "tie")),
        )
        .order_by(EVENT.c.time, EVENT.c.id)
        .execution_options(yield_per=1000)
    )
    with store.reading() as connection:
        for kind, said, body in connection.execute(query):
            raw = orjson.loads(body)
            names = [answer.get("source") for answer in raw["completions"]]
            if sorted(map(str, names)) != sorted((name, other)):
                continue
            conversation = raw.get("tags", {}).get("conversation", "")
            better = orjson.loads(said).get("choice")
            if kind == "tie":
                yield conversation, "tie"
            elif better is None:
                yield conversation, "bad"
            else:
                yield conversation, "win" if names[better] == name else "loss"


def _signal(choice: str, by: str) -> Signal:
    if choice == "bad":
        return Signal((), "vote", choice=None, by=by, shown=_SHOWN)
    if choice == "3":
        return Signal((), "tie", choice=0, over=1, by=by, shown=_SHOWN)
    if choice not in CHOICES:
        raise ValueError(f"a vote is one of {', '.join(CHOICES)}")
    better = goes_on(choice)
    assert better is not None, "neither a tie nor both bad"
    strength = CLEARLY if choice in {"1", "5"} else SLIGHTLY
    over = 1 - better
    return Signal((), "vote", choice=better, over=over, strength=strength, by=by, shown=_SHOWN)
