"""What do thumbs cost that nearly all point one way?

As many thumbs each time, of which a share points up. KTO weighs the rarer side up by itself;
beside it stands KTO that is told not to.
Source: arXiv 2402.01306, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate.curate.lint.balance import RARE
from palate.experiments.data import draw_thumbs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.runs import Case, Point

UP = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
_SHARE = 0.25  # of the scale's pairs


def cases(scale: Scale) -> list[Case]:
    """KTO with and without weights, at seven shares."""
    lines: dict[str, Mapping[str, Any]] = {
        "kto": {"beta": 0.5},
        "kto without weights": {"beta": 0.5, "desirable": 1.0, "undesirable": 1.0},
    }

    def case(line: str, up: float) -> Case:
        key = f"{line}, {up:.0%} up"
        return Case(line, key, lambda on, seed: [_run(on, seed, lines[line], up)])

    return [case(line, up) for line in lines for up in UP]


def _run(ground: Ground, seed: int, params: Mapping[str, Any], up: float) -> Point:
    pairs = ground.pairs(seed, round(_SHARE * ground.scale.pairs))
    policy = ground.train("kto", params, draw_thumbs(pairs, up, seed), seed)
    return {"up": up, "alarm": float(warned(up)), **ground.stands(policy)}


def warned(up: float) -> bool:
    """Whether lint would warn of so many thumbs that point up."""
    return not RARE <= up <= 1 - RARE


EXPERIMENT = Experiment(
    name="thumbs",
    cases=cases,
    x=Measure("up", "thumbs that point up", percent=True, digits=1),
    ys=[SHARE, REWARD, KL],
    told=[KL, REWARD, SHARE, Measure("alarm", "lint warns", percent=True, digits=1)],
)
