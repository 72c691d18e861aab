"""What are pairs worth that the model would not write itself?

The pairs' answers come from a writer between the reference and somebody else,
p ∝ reference^(1 − γ) · other^γ; the annotators are the same. Beside them stand pairs that the
policy draws itself as it learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from palate.curate.lint.on_policy import BELOW, QUANTILE
from palate.experiments.data import Pairs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.ground import KL, REWARD, SHARE, WORLD_SEED, Ground, Scale
from palate.experiments.learner import human
from palate.experiments.runs import Case, Point

MIXED = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHARE = 0.25  # of the scale's pairs
_SHARPER = 2.0  # the other writer is surer of what to say than people here are


def cases(scale: Scale) -> list[Case]:
    """Four methods by five writers, and the method that writes itself."""
    methods: dict[str, Mapping[str, Any]] = {
        "dpo": {"beta": 0.25},
        "ipo": {"tau": 0.1},
        "wpo": {"beta": 0.25},
        "dpo-nll": {"beta": 0.25},
    }

    def case(method: str, mixed: float) -> Case:
        key = f"{method}, {mixed:.0%} of another"
        return Case(method, key, lambda on, seed: [_run(on, seed, method, methods[method], mixed)])

    found = [case(method, mixed) for method in methods for mixed in MIXED]
    own = "online-dpo"
    return [*found, Case(own, own, lambda on, seed: [_online(on, seed)])]


def _run(ground: Ground, seed: int, method: str, params: Mapping[str, Any], mixed: float) -> Point:
    writer = other(ground, mixed)
    pairs = ground.pairs(seed, round(_SHARE * ground.scale.pairs), drawn=writer)
    policy = ground.train(method, params, pairs, seed)
    own = owned(ground, pairs)
    return {
        "mixed": mixed,
        "away": float((writer.exp() * (writer - ground.reference)).sum(1).mean()),
        "own": own,
        "alarm": float(own < BELOW),
        **ground.stands(policy),
    }


def other(ground: Ground, mixed: float) -> Tensor:
    """log-probs of the writer."""
    stranger = (_SHARPER * human(ground.world, WORLD_SEED + 1)).log_softmax(1)
    return ((1 - mixed) * ground.reference + mixed * stranger).log_softmax(1)


def owned(ground: Ground, pairs: Pairs) -> float:
    """The share of the pairs' answers that are as likely to the model as its own.

    At or above the 5 % quantile of the log-probs of its own answers to the same prompt, as
    `palate data lint --model` has it.
    """
    border = []
    for logps in ground.reference:
        ordered, places = logps.sort()
        mass = logps[places].exp().cumsum(0)
        border.append(ordered[int(torch.searchsorted(mass, QUANTILE))])
    limits = torch.stack(border)
    said = [ground.reference[pairs.prompt, side] for side in (pairs.chosen, pairs.rejected)]
    return float(torch.stack([one >= limits[pairs.prompt] for one in said]).double().mean())


def _online(ground: Ground, seed: int) -> Point:
    """As many pairs, of two answers each and with the same annotators, every one seen once."""
    sampled = ground.sampled(2, doubt=True)
    steps = max(1, round(_SHARE * ground.scale.pairs / sampled.prompts))
    effort = replace(ground.scale.online, steps=steps)
    truth = ground.world.rewards
    policy = ground.sample("online-dpo", {"beta": 0.25}, truth, seed, effort, sampled=sampled)
    nobody = math.nan  # whose pairs could be looked at before
    return {"mixed": 0.0, "away": 0.0, "own": nobody, "alarm": nobody, **ground.stands(policy)}


EXPERIMENT = Experiment(
    name="off-policy",
    cases=cases,
    x=Measure("away", "the writer's KL from the model, nats"),
    ys=[SHARE, REWARD],
    told=[
        Measure("away", "writer's KL"),
        Measure("own", "as likely as its own", percent=True, digits=1),
        KL,
        REWARD,
        SHARE,
        Measure("alarm", "lint notes", percent=True, digits=1),
    ],
)
