"""Fill a store with invented conversations, to measure what the pages take on a large one.

    python benchmarks/big_store.py OUT.db [--interactions 100000]

Texts are drawn from a list of words by frequency 1/rank, a conversation has one to four turns, an
interaction one or two answers. A third of the interactions has a thumb, a tenth a vote, a fiftieth
an edit. Equal arguments give equal rows.
"""

from __future__ import annotations

import argparse
import random
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

from palate.records import Arrival, Completion, Example, Message, Provenance, Signal, Verdict
from palate.store.database import Store

_BATCH = 5_000
_MODELS = ("gpt-4o-mini", "llama-3.1-8b", "smollm2-135m-instruct", "qwen2.5-7b")
_TOPICS = ("billing", "delivery", "returns", "account", "other")
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Make the store that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--interactions", type=int, default=100_000)
    asked = parser.parse_args()
    with Store.open(asked.out) as store:
        batch: list[Arrival] = []
        for number, arrival in enumerate(arrivals(asked.interactions)):
            batch.append(arrival)
            if len(batch) == _BATCH:
                store.add(batch, f"made/{number // (_BATCH * 4)}.jsonl")
                batch = []
        if batch:
            store.add(batch, "made/rest.jsonl")


def arrivals(count: int) -> Iterator[Arrival]:
    """So many interactions, and edits about some of them."""
    draw = random.Random(7)
    letters = string.ascii_lowercase
    words = ["".join(draw.choices(letters, k=draw.randint(2, 11))) for _ in range(20_000)]
    ranks = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))

    def text(length: int) -> str:
        return " ".join(draw.choices(words, cum_weights=ranks, k=length))

    for number in range(count):
        example = _example(number, draw, text)
        yield Arrival(example, (f"made:{number}",), f"user-{number % 997}")
        if number % 50 == 0:
            edit, where = (Message("assistant", text(40)),), example.provenance
            said = Signal((f"made:{number}",), "edit", 0, edit=edit, by="editor", provenance=where)
            yield Arrival(said)


def _example(number: int, draw: random.Random, text: Callable[[int], str]) -> Example:
    turns = [Message("system", "You answer the customers of a shop, briefly.")]
    for _ in range(draw.randint(0, 3)):
        turns += [Message("user", text(draw.randint(5, 60))), Message("assistant", text(80))]
    turns.append(Message("user", text(draw.randint(5, 60))))
    vote = number % 10 == 3
    thumb = {0: True, 1: False}.get(number % 6) if not vote else None
    answers = tuple(
        Completion(
            (Message("assistant", text(draw.randint(10, 150))),),
            source=draw.choice(_MODELS),
            label=thumb if at == 0 else None,
        )
        for at in range(2 if vote else 1)
    )
    time = (_BEGAN + timedelta(minutes=3 * number)).isoformat()
    return Example(
        tuple(turns),
        answers,
        verdict=Verdict(0, 1, "vote") if vote else None,
        tags={"topic": draw.choice(_TOPICS), "conversation_id": f"c{number}"},
        provenance=(Provenance("made.jsonl", number + 1, time, f"{number:064x}"),),
    )


if __name__ == "__main__":
    main()
