"""When does the chosen answer itself become less likely?

DPO's loss sees the difference of two log-ratios. Where both answers begin alike, what lifts one
lifts the other, and the difference may grow while both fall: their probability goes elsewhere.
Source: arXiv 2410.08847, 2402.13228.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from palate.evaluate.findings import displaced
from palate.experiments.data import Pairs, masses
from palate.experiments.experiment import Experiment
from palate.experiments.figures import CLEAR, Mean, Measure, runs
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.learner import table
from palate.experiments.runs import Case, Point
from palate.experiments.training import Watch
from palate.model.policy import Policy

_SHARE = 0.05  # of the scale's pairs
_LOOKS = 10


def cases(scale: Scale) -> list[Case]:
    """DPO on ordinary pairs, and it and its remedies on pairs that differ in their last symbol."""
    lines: list[tuple[str, str, Mapping[str, Any], bool]] = [
        ("dpo, unlike answers", "dpo", {"beta": 0.1}, False),
        ("dpo", "dpo", {"beta": 0.1}, True),
        ("dpo, strong tie", "dpo", {"beta": 1.0}, True),
        ("ipo", "ipo", {"tau": 0.1}, True),
        ("dpo-nll", "dpo-nll", {"beta": 0.1}, True),
        ("nca", "nca", {"beta": 0.1}, True),
        ("kto", "kto", {"beta": 0.1}, True),
    ]
    return [
        Case(line, line, partial(_run, method, params, alike))
        for line, method, params, alike in lines
    ]


def _run(
    method: str, params: Mapping[str, Any], alike: bool, ground: Ground, seed: int
) -> list[Point]:
    count, symbols = round(_SHARE * ground.scale.pairs), ground.world.symbols

    def rivals(first: torch.Tensor) -> torch.Tensor:
        """Those that differ in the last symbol only: it varies fastest."""
        every = torch.arange(len(ground.world.answers))
        return every[None] // symbols == first[:, None] // symbols

    pairs = ground.pairs(seed, count, rivals=rivals if alike else None)
    points: list[Point] = [_stands(ground, pairs, ground.start, 0, False)]
    lines: list[Mapping[str, Any]] = []

    def look(step: int, policy: Policy, trained: Mapping[str, float], _: Any) -> None:
        lines.append(trained)
        points.append(_stands(ground, pairs, policy, step, displaced(lines)))

    watch = Watch(ground.scale.offline.steps // _LOOKS, look)
    ground.train(method, params, pairs, seed, watch=watch)
    return points


def _stands(ground: Ground, pairs: Pairs, policy: Policy, step: int, fell: bool) -> Point:
    """`chosen` and `rejected`: mean log-ratios; `elsewhere`: mass on answers in no pair."""
    logps = table(policy, ground.world)
    ratio = logps - ground.reference
    return {
        "step": step,
        "chosen": float(ratio[pairs.prompt, pairs.chosen].mean()),
        "rejected": float(ratio[pairs.prompt, pairs.rejected].mean()),
        "elsewhere": masses(logps, pairs)[2],
        "alarm": float(fell),
        **ground.stands(logps),
    }


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """Of each line: whether the chosen answers end less likely than they began."""
    lines = {}
    for points in runs(found):
        end = points[-1]
        error = end.spread("chosen") / end.seeds**0.5
        lines[end.line] = {
            "chosen": round(end.value("chosen"), 4),
            "falls": end.value("chosen") < -CLEAR * error,
            "told": round(end.value("alarm"), 4),
        }
    return lines


CHOSEN = Measure("chosen", "chosen, nats")
EXPERIMENT = Experiment(
    name="displacement",
    cases=cases,
    x=Measure("step", "step", digits=0),
    ys=[CHOSEN, Measure("elsewhere", "on answers in no pair", percent=True), REWARD],
    told=[
        CHOSEN,
        Measure("rejected", "rejected, nats"),
        Measure("elsewhere", "on answers in no pair", percent=True),
        KL,
        REWARD,
        SHARE,
        Measure("alarm", "runs with the note", percent=True, digits=1),
    ],
    found=concluded,
)
