"""The workloads W1 to W6 as courses: real chat pairs, or generated text of exact lengths."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .course import Course, Pair

MAX_LENGTH = 1024  # of W3's sequences; longer pairs are left out, as the recipe would
LENGTHS = Path(__file__).parent / "w3_lengths.json"
_WORDS = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()


@dataclass(frozen=True, slots=True)
class Workload:
    """Lengths in tokens; the first `shared` of a prompt are the same in every pair.

    `part` is how many pairs of an even step the other side is timed on, `quick_part` the same
    in a quick race. `lengths` is None for W3, whose pairs are real; `quick_pairs` is a smaller
    step for both sides of a quick race.
    """

    name: str
    about: str
    pairs: int
    lengths: tuple[int, int, int] | None
    shared: int = 0
    part: int | None = None
    quick_part: int | None = None
    quick_pairs: int | None = None


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", "short prompt, long answers", 8, (32, 480, 480), quick_part=4),
        Workload("W2", "4,096-token prompt", 4, (4096, 128, 128), part=1, quick_part=1),
        Workload("W3", "real chat pairs", 8, None, quick_pairs=2),
        Workload(
            "W4", "shared 1,000-token system prompt", 32, (1040, 60, 60), 1000, part=8, quick_part=2
        ),
        Workload("W5", "one-token prompt, equal lengths", 8, (1, 255, 255), quick_part=8),
    )
}


def make_course(workload: Workload, renderer: Any, steps: int, data: Path | None) -> Course:
    """The course of so many steps, in the order in which a run with seed 0 would draw them."""
    count = steps * workload.pairs
    if workload.lengths is not None:
        pairs = generated(renderer, [workload.lengths] * count, workload.shared)
    elif data is not None:
        pairs = real(renderer, data, count)
    else:
        lengths = json.loads(LENGTHS.read_text(encoding="utf-8"))
        pairs = generated(renderer, [tuple(lengths[i % len(lengths)]) for i in range(count)], 0)
    order = draw(steps, workload.pairs)
    return Course(workload.name, tuple(pairs), order, workload.lengths is not None)


def draw(steps: int, pairs: int) -> tuple[tuple[int, ...], ...]:
    """The pairs of each step, as a run with seed 0 draws them from `steps * pairs`."""
    from palate.tokens.sampler import Sampler

    sampler = Sampler(steps * pairs, pairs, seed=0)
    return tuple(tuple(sampler.batch(step)) for step in range(steps))


def real(renderer: Any, data: Path, count: int) -> list[Pair]:
    """The first pairs of a preference file that fit, prepared and rendered as a run does it."""
    from palate.config import DataConfig
    from palate.curate.prepare import prepare

    from .ours import as_triple

    config = DataConfig(path=str(data), heldout=0, max_length=MAX_LENGTH)
    kept = prepare(config, 0, renderer.check).train
    if len(kept) < count:
        raise ValueError(f"{data} has {len(kept)} pairs that fit; the race needs {count}")
    triples = (as_triple(renderer.render(e.oriented("pair"))) for e in kept[:count])
    return [Pair(*(tuple(part) for part in triple)) for triple in triples]


def generated(renderer: Any, lengths: Sequence[tuple[int, int, int]], shared: int) -> list[Pair]:
    """Pairs of random words, encoded by the renderer and cut to the lengths."""
    stream = Words(renderer)
    trunk = stream.take(shared)
    return [
        Pair((*trunk, *stream.take(prompt - shared)), stream.take(chosen), stream.take(rejected))
        for prompt, chosen, rejected in lengths
    ]


class Words:
    """Token ids of endless random text, the same every time; no template around it."""

    def __init__(self, renderer: Any) -> None:
        from palate.tokens.render import Renderer

        self.plain = Renderer(renderer.tokenizer, template="raw", end_ids=[*renderer.end_ids])
        self.random = random.Random(0)

    def take(self, count: int) -> tuple[int, ...]:
        """The next `count` ids; every call begins a new text."""
        from palate.records import Message

        if count == 0:
            return ()
        text = " ".join(self.random.choices(_WORDS, k=count))
        ids = self.plain.prompt([Message("user", text)])[len(self.plain.begin) :]
        assert len(ids) >= count, "a word is a token at least"
        return tuple(ids[:count])
