"""A course: the token ids that both sides of a race train on, in a file, with their hash.

Made once, by Palate's renderer, and read by both sides. Only the standard library is used,
because the other side runs in an environment of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# What the equality gate keeps of a pair. In fp32 a sum over N nats is rounded by about
# N·6e-8 on either side, so that answers of hundreds of tokens could not agree to 1e-5; a
# long prompt rounds the first layers' gradient by 1e-4 of itself (docs/race.md).
GATE_PROMPT, GATE_ANSWER, GATE_PAIRS, GATE_STEPS = 384, 64, 2, 2


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids; every token of an answer is trained on, none of the prompt."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of both sequences, the prompt counted twice."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def longest(self) -> int:
        """Length of the longer sequence."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class Course:
    """Pairs and the optimizer steps they are drawn in; `steps` holds indices of `pairs`.

    `even` says that all pairs have the same lengths, so that a part of a step tells the
    time of the whole.
    """

    workload: str
    pairs: tuple[Pair, ...]
    steps: tuple[tuple[int, ...], ...]
    even: bool

    @property
    def pairs_per_step(self) -> int:
        """Pairs of an optimizer step."""
        return len(self.steps[0])

    def digest(self) -> str:
        """SHA-256 of all ids and of which of them are trained on."""
        return digest((p.prompt, p.chosen, p.rejected) for p in self.pairs)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_course(path: Path) -> Course:
    """Inverse of `Course.write`."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    pairs = tuple(
        Pair(*(tuple(p[k]) for k in ("prompt", "chosen", "rejected"))) for p in raw["pairs"]
    )
    return Course(raw["workload"], pairs, tuple(tuple(s) for s in raw["steps"]), raw["even"])


def digest(triples: Iterable[tuple[Sequence[int], Sequence[int], Sequence[int]]]) -> str:
    """SHA-256 over (prompt, chosen, rejected) ids: each part's length, then its ids."""
    sha = hashlib.sha256()
    for triple in triples:
        for part in triple:
            sha.update(len(part).to_bytes(8, "little"))
            for token in part:
                sha.update(int(token).to_bytes(8, "little"))
    return sha.hexdigest()


def gate_course(course: Course, steps: tuple[tuple[int, ...], ...]) -> Course:
    """The few short steps on which both sides' losses must agree before anything is timed.

    `steps` is the order in which a run draws `GATE_PAIRS` of `GATE_PAIRS * GATE_STEPS` pairs.
    """
    by_length = sorted(course.pairs, key=lambda pair: pair.tokens)
    pairs = tuple(
        Pair(p.prompt[:GATE_PROMPT], p.chosen[:GATE_ANSWER], p.rejected[:GATE_ANSWER])
        for p in by_length[: GATE_PAIRS * GATE_STEPS]
    )
    return Course(f"{course.workload} gate", pairs, steps, even=False)
