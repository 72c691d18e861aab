"""Does a reward model know more of the same pairs than DPO?

Both learn from the same pairs with the same steps, and more steps. What each says of answers is
measured as judges are: the share of pairs that it has not seen which it ranks as the annotators
did, and where the best of 16 answers by it stands. DPO's score of an answer is its implicit
reward, log π − log π_ref. The truth is the third judge: annotators doubt, so that it too is at
less than 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from palate.experiments.experiment import Experiment
from palate.experiments.figures import Mean, Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.learner import table
from palate.experiments.runs import Case, Point
from palate.experiments.world import best_of
from palate.model.policy import Policy

STEPS = (0.5, 1, 2, 4)  # times the scale's
BEST_OF = 16
_HELDOUT = 4096
_BETA = 0.25


def cases(scale: Scale) -> list[Case]:
    """Two learners by their steps, and the truth."""
    found = [
        Case(line, f"{line}, {share:g} times the steps", partial(_learned, line, share))
        for line in ("reward model", "dpo")
        for share in STEPS
    ]
    return [*found, Case("the truth", "the truth", _truth)]


def _learned(line: str, share: float, ground: Ground, seed: int) -> list[Point]:
    steps = round(share * ground.scale.offline.steps)
    effort, pairs = replace(ground.scale.offline, steps=steps), ground.pairs(seed)
    if line == "dpo":
        scores = implicit(ground.train("dpo", {"beta": _BETA}, pairs, seed, effort), ground)
    else:
        scores = ground.reward_model(pairs, seed, effort)
    return [{"steps": steps, **judged(ground, scores, seed)}]


def implicit(policy: Policy, ground: Ground) -> Tensor:
    """DPO's reward of every answer but for β and a constant of the prompt, [P, A]."""
    return table(policy, ground.world) - ground.reference


def _truth(ground: Ground, seed: int) -> list[Point]:
    return [{"steps": 0, **judged(ground, ground.world.rewards, seed)}]


def judged(ground: Ground, scores_PA: Tensor, seed: int) -> Point:
    """`ranked` is the share of unseen pairs whose chosen answer has the higher score."""
    pairs = ground.heldout(seed, _HELDOUT)
    gap = scores_PA[pairs.prompt, pairs.chosen] - scores_PA[pairs.prompt, pairs.rejected]
    ranked = float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())
    best = best_of(BEST_OF, ground.reference, scores_PA)
    return {"ranked": ranked, **ground.stands(best)}


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """Of each judge the shares that it ranks, in the order of its steps."""
    lines: dict[str, list[float]] = {}
    for one in found:
        lines.setdefault(one.line, []).append(round(one.value("ranked"), 4))
    return lines


EXPERIMENT = Experiment(
    name="ranking",
    cases=cases,
    x=Measure("steps", "steps", digits=0),
    ys=[Measure("ranked", "unseen pairs ranked right", percent=True), SHARE],
    told=[
        Measure("ranked", "unseen pairs ranked right", percent=True),
        KL,
        REWARD,
        SHARE,
    ],
    found=concluded,
)
