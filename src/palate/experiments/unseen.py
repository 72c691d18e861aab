"""How much goes to answers that are in no pair?

DPO on few pairs says nothing of all other answers; a reward model does, right or wrong. Labels
are without doubt here, so that DPO's margins may grow without end.
Source: arXiv 2404.10719, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from palate.experiments.data import Pairs, masses
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, REWARD, SHARE, Ground, Scale
from palate.experiments.learner import table
from palate.experiments.runs import Case, Point
from palate.experiments.training import Watch
from palate.model.policy import Policy

_SHARE = 0.01  # of the scale's pairs: 200
_LOOKS = 10
_SURE = 100.0  # times the true rewards: what the better answer wins by


def cases(scale: Scale) -> list[Case]:
    """Methods on the same few pairs, and a reward model of them as the judge of own samples."""
    lines: dict[str, tuple[str, Mapping[str, Any]]] = {
        "dpo, weak tie": ("dpo", {"beta": 0.05}),
        "dpo, strong tie": ("dpo", {"beta": 1.0}),
        "ipo": ("ipo", {"tau": 0.1}),
        "dpo-nll": ("dpo-nll", {"beta": 0.05}),
        "kto": ("kto", {"beta": 0.1}),
        "sft": ("sft", {}),
    }
    found = [Case(line, line, partial(_offline, *given)) for line, given in lines.items()]
    judged = "grpo, learned reward"
    return [*found, Case(judged, judged, _online)]


def _offline(method: str, params: Mapping[str, Any], ground: Ground, seed: int) -> list[Point]:
    pairs = _pairs(ground, seed)
    points = [_stands(ground, pairs, ground.start, 0)]

    def look(step: int, policy: Policy, *_: Any) -> None:
        points.append(_stands(ground, pairs, policy, step))

    watch = Watch(ground.scale.offline.steps // _LOOKS, look)
    ground.train(method, params, pairs, seed, watch=watch)
    return points


def _online(ground: Ground, seed: int) -> list[Point]:
    pairs = _pairs(ground, seed)
    scores = ground.reward_model(pairs, seed)
    points = [_stands(ground, pairs, ground.start, 0)]

    def look(step: int, policy: Policy, *_: Any) -> None:
        points.append(_stands(ground, pairs, policy, step))

    watch = Watch(ground.scale.online.steps // _LOOKS, look)
    ground.sample("grpo", {"beta": 0.05}, scores, seed, watch=watch)
    return points


def _pairs(ground: Ground, seed: int) -> Pairs:
    count = round(_SHARE * ground.scale.pairs)
    return ground.pairs(seed, count, judged=_SURE * ground.world.rewards)


def _stands(ground: Ground, pairs: Pairs, policy: Policy, step: int) -> Point:
    """`unseen`, `chosen` and `rejected` are masses of answers, by prompt and then the mean."""
    logps = table(policy, ground.world)
    chosen, rejected, unseen = masses(logps, pairs)
    return {
        "step": step,
        "unseen": unseen,
        "chosen": chosen,
        "rejected": rejected,
        **ground.stands(logps),
    }


EXPERIMENT = Experiment(
    name="unseen",
    cases=cases,
    x=Measure("step", "step", digits=0),
    ys=[Measure("unseen", "on answers in no pair", percent=True), REWARD, KL],
    told=[
        Measure("unseen", "on answers in no pair", percent=True),
        Measure("chosen", "on chosen ones", percent=True),
        Measure("rejected", "on rejected ones", percent=True),
        KL,
        REWARD,
        SHARE,
    ],
)
