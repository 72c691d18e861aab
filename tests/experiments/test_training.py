"""Methods trained in a small world: nothing above the frontier, and the better answers likelier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from palate.experiments.data import Words, draw_pairs, examples
from palate.experiments.learner import fit, human, new_policy, table
from palate.experiments.training import Effort, Lab, Watch, train_offline
from palate.experiments.world import Frontier, make_world, measure
from palate.model.policy import Policy
from palate.model.score import score
from palate.train.reference import ReferenceLogps

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
    pairs, frontier = (
        draw_pairs(reference, WORLD.rewards, 4000, 3),
        Frontier(reference, WORLD.rewards),
    )
    effort = Effort(steps=120, batch=64, lr=1e-3)
    found = train_offline(Lab(start, Words(WORLD), effort, seed=1), name, params, pairs)
    point = measure(table(found, WORLD), reference, WORLD.rewards)
    assert point.kl > 0.005
    assert point.reward <= frontier.reward_at(point.kl) + 1e-9
    assert least < frontier.share(point) < 1, point
    assert torch.equal(table(start, WORLD), reference)


def test_the_references_log_probs_are_those_of_the_engine(start: Policy) -> None:
    lab, words = Lab(start, Words(WORLD), Effort(), seed=1), Words(WORLD)
    pairs = draw_pairs(table(start, WORLD), WORLD.rewards, 20, 3)
    rows = examples(words, pairs, "pair")
    found = lab.split(rows, reference=True).reference
    assert isinstance(found, ReferenceLogps)
    for mine, engine in zip(found.by_row, score(start, rows, 64), strict=True):
        assert torch.allclose(mine, engine, atol=1e-5)
    assert lab.split(rows, reference=False).reference is None


def test_looks_are_at_the_beginning_every_so_often_and_at_the_end(start: Policy) -> None:
    pairs = draw_pairs(table(start, WORLD), WORLD.rewards, 400, 3)
    lab = Lab(start, Words(WORLD), Effort(steps=10, batch=64, lr=1e-3), seed=1)
    seen: list[tuple[int, bool, float]] = []

    def look(
        step: int, policy: Policy, trained: Mapping[str, float], heldout: Mapping[str, float]
    ) -> None:
        moved = not torch.equal(table(policy, WORLD), table(start, WORLD))
        assert ("margin" in trained) == (step > 0)
        seen.append((step, moved, heldout.get("loss", -1.0)))

    found = train_offline(lab, "dpo", {"beta": 1.0}, pairs, Watch(4, look, pairs.of(slice(40))))
    assert [(step, moved) for step, moved, _ in seen] == [
        (0, False),
        (4, True),
        (8, True),
        (10, True),
    ]
    assert seen[0][2] == pytest.approx(math.log(2), abs=1e-5)
    assert seen[3][2] < seen[0][2]
    seen.clear()
    again = train_offline(lab, "dpo", {"beta": 1.0}, pairs, Watch(4, look))
    assert [step for step, _, _ in seen] == [4, 8, 10]
    assert torch.equal(table(found, WORLD), table(again, WORLD)), "looking changes nothing"
