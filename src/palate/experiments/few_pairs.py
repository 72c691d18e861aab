"""How many pairs are enough?

The same steps on ever more pairs; and as the remedy, DPO that keeps a fifth of its pairs apart
and takes the weights at which their loss was lowest (`train.best: loss`), which is the only one
of them that can have the alarm of a held-out loss that rises again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from palate.evaluate.findings import rose_again
from palate.experiments.data import Pairs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.runs import Case, Point
from palate.experiments.training import Watch
from palate.model.policy import Policy

COUNTS = (100, 300, 1000, 3000, 10_000, 30_000)
_LOOKS = 20
_APART = 5  # one in so many is not trained on


def cases(scale: Scale) -> list[Case]:
    """Seven lines by six counts; at the reduced scale, counts up to its pairs."""
    counts = [count for count in COUNTS if count <= 1.5 * scale.pairs]
    methods: dict[str, tuple[str, Mapping[str, Any]]] = {
        "dpo": ("dpo", {"beta": 0.25}),
        "dpo, strong tie": ("dpo", {"beta": 1.0}),
        "ipo": ("ipo", {"tau": 0.1}),
        "kto": ("kto", {"beta": 0.5}),
        "sft": ("sft", {}),
    }

    def case(line: str, count: int) -> Case:
        def run(on: Ground, seed: int) -> list[Point]:
            pairs = on.pairs(seed, count)
            if line == "dpo, best held-out":
                return [{"pairs": count, **_best(on, seed, pairs)}]
            if line == "grpo, learned reward":
                return [{"pairs": count, **_judged(on, seed, pairs)}]
            found = on.stands(on.train(*methods[line], pairs, seed))
            return [{"pairs": count, **found, "alarm": math.nan}]

        return Case(line, f"{line}, {count:,} pairs", run)

    lines = [*methods, "dpo, best held-out", "grpo, learned reward"]
    return [case(line, count) for line in lines for count in counts]


def _best(ground: Ground, seed: int, pairs: Pairs) -> Point:
    looks: list[tuple[float, Point]] = []
    losses: list[Mapping[str, Any]] = []

    def look(step: int, policy: Policy, _: Any, heldout: Mapping[str, float]) -> None:
        losses.append({"step": step, "loss": heldout["loss"]})
        looks.append((heldout["loss"], ground.stands(policy)))

    border = len(pairs) // _APART
    watch = Watch(ground.scale.offline.steps // _LOOKS, look, pairs.of(slice(border)))
    ground.train("dpo", {"beta": 0.25}, pairs.of(slice(border, None)), seed, watch=watch)
    return {**min(looks, key=lambda one: one[0])[1], "alarm": float(rose_again(losses))}


def _judged(ground: Ground, seed: int, pairs: Pairs) -> Point:
    scores = ground.reward_model(pairs, seed)
    found = ground.stands(ground.sample("grpo", {"beta": 0.25}, scores, seed))
    return {**found, "alarm": math.nan}


EXPERIMENT = Experiment(
    name="few-pairs",
    cases=cases,
    x=Measure("pairs", "pairs", log=True, digits=0),
    ys=[REWARD, SHARE, KL],
    told=[KL, REWARD, SHARE, Measure("alarm", "runs with the alarm", percent=True, digits=1)],
)
