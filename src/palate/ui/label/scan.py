"""One pass over the store: everything that can be labelled, a batch at a time.

Nothing of the text is kept but hashes, so that 100,000 interactions take tens of megabytes. Each
batch is a short transaction of its own: a long one would keep SQLite's log from being folded in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import orjson
import sqlalchemy as sa

from palate.store.database import Store
from palate.store.items import Item, across
from palate.store.schema import EVENT, INTERACTION
from palate.ui.label.alike import sketches
from palate.ui.label.opinions import Said, of_one, of_pair, of_two
from palate.ui.label.ranking import Candidate, Opinion, canonical

BATCH = 500
_SPEAKING = ("vote", "tie", "thumb", "score")


@dataclass(slots=True)
class _Single:
    """The only answer of an interaction, which may meet another's."""

    interaction: str
    answer: int
    like: tuple[int, ...]
    said: list[Said]


@dataclass(slots=True)
class Found:
    """What a scan has found so far.

    `alone` are the single answers of each prompt, `met` the answers that stand beside another.
    """

    pairs: list[Candidate] = field(default_factory=list)
    singles: list[Candidate] = field(default_factory=list)
    interactions: int = 0
    alone: dict[int, list[_Single]] = field(default_factory=lambda: defaultdict(list))
    met: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def across(self) -> list[Candidate]:
        """Pairs of answers that one prompt got in two interactions, no answer twice.

        Answers that stand beside another in some interaction of the prompt are left out: they have
        been compared, or can be.
        """
        made: list[Candidate] = []
        for prompt, rows in self.alone.items():
            if len(rows) == 1:
                continue
            beside = self.met.get(prompt, set())
            first = {row.answer: row for row in reversed(rows) if row.answer not in beside}
            free = [first[answer] for answer in sorted(first)]
            for one, other in zip(free[::2], free[1::2], strict=False):
                item = across(one.interaction, other.interaction)
                opinion = of_two(one.said, other.said)
                made.append(_candidate(item, prompt, one.like, opinion, one.answer, other.answer))
        return made


def scan(store: Store, batch: int = BATCH) -> Iterator[Found]:
    """Look at every interaction, in the order of their ids, and give what is known after each."""
    found, last = Found(), ""
    while True:
        query = (
            sa.select(INTERACTION.c.id, INTERACTION.c.body)
            .where(INTERACTION.c.id > last, INTERACTION.c.erased.is_(None))
            .order_by(INTERACTION.c.id)
            .limit(batch)
        )
        with store.reading() as connection:
            rows = connection.execute(query).all()
            said = _events(connection, [key for key, _ in rows])
        if not rows:
            return
        _take(found, [(key, orjson.loads(body)) for key, body in rows], said)
        last = rows[-1][0]
        yield found


def _events(connection: sa.Connection, keys: Sequence[str]) -> dict[str, list[Said]]:
    query = sa.select(EVENT.c.interaction, EVENT.c.said).where(
        EVENT.c.interaction.in_(keys),
        EVENT.c.erased.is_(None),
        EVENT.c.kind.in_(_SPEAKING),
    )
    said: dict[str, list[Said]] = defaultdict(list)
    for key, words in connection.execute(query):
        said[key].append(orjson.loads(words))
    return said


def _take(found: Found, rows: Sequence[tuple[str, Any]], said: dict[str, list[Said]]) -> None:
    prompted = [(key, body) for key, body in rows if body["prompt"]]
    like = sketches([_asked(body["prompt"]) for _, body in prompted])
    found.interactions += len(rows)
    for (key, body), marks in zip(prompted, like, strict=True):
        prompt = _hash([body["prompt"], body.get("tools", [])])
        answers = {
            place: _hash(_stripped(answer["messages"]))
            for place, answer in enumerate(body["completions"])
            if _worded(answer["messages"])
        }
        events = said.get(key, [])
        if len(body["completions"]) == 1 and answers:
            item = Item(key, (0,))
            opinion = of_one(events, 0)
            found.singles.append(_candidate(item, prompt, marks, opinion, answers[0]))
            found.alone[prompt].append(_Single(key, answers[0], marks, events))
        elif len(set(answers.values())) > 1:
            found.met[prompt].update(answers.values())
            for one, other in _informative(answers, events):
                opinion = of_pair(events, one, other)
                item = Item(key, (one, other))
                content = answers[one], answers[other]
                found.pairs.append(_candidate(item, prompt, marks, opinion, *content))


def _informative(answers: dict[int, int], events: Sequence[Said]) -> Iterator[tuple[int, int]]:
    """Neighbours in the order of their scores, so that k answers give k − 1 pairs.

    Who knows how each stands to the next knows the order of all; without scores they are taken as
    they stand. Pairs that somebody has ranked are among them too, for the disagreements.
    """
    totals: dict[int, list[float]] = defaultdict(list)
    for event in events:
        if event["kind"] == "score" and event.get("score") is not None:
            totals[event.get("choice", 0)].append(event["score"])
    means = {place: sum(values) / len(values) for place, values in totals.items()}
    if not answers.keys() <= means.keys():
        means = dict.fromkeys(answers, 0.0)
    order = sorted(answers, key=lambda place: (-means[place], place))
    pairs = {(min(pair), max(pair)) for pair in pairwise(order)}
    voted = [{event.get("choice"), event.get("over")} for event in events]
    for one in answers:
        for other in answers:
            if one < other and {one, other} in voted:
                pairs.add((one, other))
    return (pair for pair in sorted(pairs) if answers[pair[0]] != answers[pair[1]])


def _candidate(
    item: Item, prompt: int, like: tuple[int, ...], opinion: Opinion, *answers: int
) -> Candidate:
    content = _hash([prompt, *sorted(answers)])
    return Candidate(canonical(item), item, prompt, content, like, opinion)


def _asked(prompt: Sequence[dict[str, Any]]) -> str:
    said = [turn["content"] for turn in prompt if turn["role"] == "user"]
    return "\n".join(said or [turn["content"] for turn in prompt])


def _stripped(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**turn, "content": turn["content"].strip()} for turn in turns]


def _worded(turns: Sequence[dict[str, Any]]) -> bool:
    return any(turn["content"].strip() or turn.get("tool_calls") for turn in turns)


def _hash(value: Any) -> int:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
