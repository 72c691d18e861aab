"""Methods trained in a small world: nothing above the frontier, and the better answers likelier."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palate.experiments.data import Words, draw_pairs
from palate.experiments.learner import fit, human, new_policy, table
from palate.experiments.training import Effort, Lab, train_offline
from palate.experiments.world import Frontier, make_world, measure
from palate.model.policy import Policy

WORLD = make_world(2, symbols=3, length=3, prompts=4)


@pytest.fixture(scope="module")
def start() -> Policy:
    policy = new_policy(WORLD, 0)
    fit(policy, WORLD, human(WORLD, 0), steps=300)
    return policy


CASES: list[tuple[str, dict[str, Any], float]] = [
    ("dpo", {"beta": 1.0}, 0.9),
    ("ipo", {"tau": 0.5}, 0.9),
    ("kto", {"beta": 1.0}, 0.85),
    ("sft", {}, 0.8),
    ("orpo", {}, 0.8),
]


@pytest.mark.parametrize(("name", "params", "least"), CASES)
def test_it_makes_a_part_of_the_oracles_gain(
    start: Policy, name: str, params: dict[str, Any], least: float
) -> None:
    reference = table(start, WORLD)
    pairs, frontier = draw_pairs(WORLD, reference, 4000, 3), Frontier(reference, WORLD.rewards)
    effort = Effort(steps=120, batch=64, lr=1e-3)
    found = train_offline(Lab(start, Words(WORLD), effort, seed=1), name, params, pairs)
    point = measure(table(found, WORLD), reference, WORLD.rewards)
    assert point.kl > 0.005
    assert point.reward <= frontier.reward_at(point.kl) + 1e-9
    assert least < frontier.share(point) < 1, point
    assert torch.equal(table(start, WORLD), reference)
