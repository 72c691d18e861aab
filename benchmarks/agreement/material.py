"""What both sides compute losses of: random token log-probs, drawn once and written to a file."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

PAIRS = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: by token log π, log π_ref and log Σ_v π(v)², and what a scalar head says."""

    policy: tuple[float, ...]
    reference: tuple[float, ...]
    log_sum_p2: tuple[float, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Material:
    """Pairs, and for each its prompt with another prompt's answer."""

    chosen: tuple[Answer, ...]
    rejected: tuple[Answer, ...]
    mismatched: tuple[Answer, ...]

    def write(self, path: Path) -> None:
        """As JSON, without loss: Python writes the shortest digits that read back the same."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_material(path: Path) -> Material:
    """What `Material.write` wrote."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Material(**{side: tuple(_answer(a) for a in kept[side]) for side in kept})


def _answer(kept: dict[str, list[float] | float]) -> Answer:
    return Answer(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()})  # type: ignore[arg-type]


def draw_answer(generator: random.Random, drift: float) -> Answer:
    """1 to 14 tokens; log-ratios of a token around `drift`, a nat apart."""
    length = generator.randint(1, 14)
    reference = [-generator.expovariate(0.4) - 1e-3 for _ in range(length)]
    policy = [min(r + generator.gauss(drift, 1.0), -1e-3) for r in reference]
    squares = [-generator.uniform(0.1, 4.0) for _ in range(length)]
    return Answer(tuple(policy), tuple(reference), tuple(squares), generator.gauss(0, 2))


def draw(seed: int, pairs: int = PAIRS) -> Material:
    """Pairs whose mismatched answers drift upwards, so that KTO's z₀ is above 0."""
    generator = random.Random(seed)
    return Material(
        chosen=tuple(draw_answer(generator, 0.1) for _ in range(pairs)),
        rejected=tuple(draw_answer(generator, -0.2) for _ in range(pairs)),
        mismatched=tuple(draw_answer(generator, 0.3) for _ in range(pairs)),
    )


def far(size: float) -> Material:
    """Two pairs of one token whose log-ratios are ±size: one far right, one far wrong."""

    def answer(ratio: float) -> Answer:
        return Answer((min(0.0, ratio) - 1.0,), (min(0.0, -ratio) - 1.0,), (-1.0,), 0.0)

    up, down = answer(size), answer(-size)
    return Material((up, down), (down, up), (up, down))
