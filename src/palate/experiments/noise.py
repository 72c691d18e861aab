"""What do wrong labels cost, and who minds them?

A share of the labels is turned over by a coin. The conservative and the robust loss are told the
share; the others are not.
Source: arXiv 2403.00409.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from palate.experiments.data import Pairs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.runs import Case, Point

FLIPS = (0.0, 0.1, 0.2, 0.3)
_SHARE = 0.25  # of the scale's pairs


def cases(scale: Scale) -> list[Case]:
    """Five methods at four shares."""

    def params(method: str, flips: float) -> Mapping[str, Any]:
        if method in ("cdpo", "robust-dpo"):
            return {"beta": 0.25, "epsilon": flips}
        return {"ipo": {"tau": 0.1}, "kto": {"beta": 0.5}}.get(method, {"beta": 0.25})

    def case(method: str, flips: float) -> Case:
        return Case(
            method,
            f"{method}, {flips:.0%} wrong",
            lambda on, seed: [_run(on, seed, method, params(method, flips), flips)],
        )

    methods = ("dpo", "cdpo", "robust-dpo", "ipo", "kto")
    return [case(method, flips) for method in methods for flips in FLIPS]


def _run(ground: Ground, seed: int, method: str, params: Mapping[str, Any], flips: float) -> Point:
    pairs = ground.pairs(seed, round(_SHARE * ground.scale.pairs), flips=flips)
    policy = ground.train(method, params, pairs, seed)
    return {"flips": flips, "doubt": doubt(ground, pairs, flips), **ground.stands(policy)}


def doubt(ground: Ground, pairs: Pairs, flips: float) -> float:
    """The share of wrong labels that two judgements of each pair would show (`palate data lint`).

    η = (1 − √(1 − 2d)) / 2 where a share d of two judgements disagree. It cannot tell a label
    that was turned over from annotators who are unsure.
    """
    rewards = ground.world.rewards
    sure = (rewards[pairs.prompt, pairs.chosen] - rewards[pairs.prompt, pairs.rejected]).sigmoid()
    says = (1 - flips) * sure + flips * (1 - sure)
    differ = float((2 * says * (1 - says)).mean())
    return (1 - math.sqrt(1 - 2 * differ)) / 2


WRONG = Measure("flips", "labels turned over", percent=True, digits=1)
EXPERIMENT = Experiment(
    name="noise",
    cases=cases,
    x=WRONG,
    ys=[SHARE, REWARD],
    told=[KL, REWARD, SHARE, Measure("doubt", "wrong by two judgements", percent=True, digits=1)],
)
