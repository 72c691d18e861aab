"""The world's figures by hand, and the frontier's properties by many random policies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from palate.experiments.world import (
    Frontier,
    World,
    best_of,
    energy,
    make_world,
    measure,
    potentials,
    tilted,
)


def wide(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_every_answer_is_listed_once_and_rewards_are_standard() -> None:
    world = make_world(1, symbols=3, length=4, prompts=2)
    assert world.answers.shape == (81, 4)
    assert len({tuple(row) for row in world.answers.tolist()}) == 81
    assert torch.allclose(world.rewards.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    variance = world.rewards.square().mean(1)
    assert torch.allclose(variance, torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(world.rewards[0], world.rewards[1])
    assert torch.equal(world.rewards, make_world(1, symbols=3, length=4, prompts=2).rewards)


def test_the_energy_of_one_answer_by_hand() -> None:
    places, neighbours, own = potentials(3, 3, 2)
    world = World(3, torch.tensor([[2, 0]]), torch.tensor([[1, 0]]), torch.empty(0))
    found = energy(world, places, neighbours, own)
    by_hand = places[0, 1] + places[1, 0] + neighbours[1, 0] + own[2, 0, 1] + own[2, 1, 0]
    assert float(found) == pytest.approx(float(by_hand), abs=1e-12)


def test_answers_that_end() -> None:
    """1 + 3 + 9 + 27 answers; what follows an end counts for nothing, no length is worth more."""
    world = make_world(1, symbols=3, length=3, prompts=2, ends=True)
    assert world.vocabulary == 4
    assert world.words_A.bincount().tolist() == [1, 3, 9, 27]
    assert world.tokens_A.bincount().tolist() == [0, 1, 3, 36]
    assert world.answers[:5].tolist() == [[3, 3, 3], [0, 3, 3], [1, 3, 3], [2, 3, 3], [0, 0, 3]]
    for words in (0, 1, 2, 3):
        some = world.rewards[:, world.words_A == words]
        assert torch.allclose(some.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    places, neighbours, own = potentials(3, 3, 3)
    found = energy(
        World(3, torch.tensor([[2, 0]]), torch.tensor([[1, 0, 3]]), torch.empty(0), ends=True),
        places,
        neighbours,
        own,
    )
    by_hand = places[0, 1] + places[1, 0] + neighbours[1, 0] + own[2, 0, 1] + own[2, 1, 0]
    assert float(found) == pytest.approx(float(by_hand), abs=1e-12)


def test_the_five_answers_of_the_specification() -> None:
    """rewards (1, .5, 0, −.5, −1), π_ref (.1, .2, .4, .2, .1), β = .5: known to six digits."""
    reference = wide([[0.1, 0.2, 0.4, 0.2, 0.1]]).log()
    rewards = wide([[1.0, 0.5, 0.0, -0.5, -1.0]])
    optimum = tilted(reference, rewards, 2.0)
    expected = wide([[0.41754, 0.30721, 0.22603, 0.04158, 0.00765]])
    assert torch.allclose(optimum.exp(), expected, atol=5e-6)
    point = measure(optimum, reference, rewards)
    assert point.reward == pytest.approx(0.542707, abs=1e-6)
    assert point.kl == pytest.approx(0.514619, abs=1e-6)
    frontier = Frontier(reference, rewards)
    assert frontier.slope_at(point.kl) == pytest.approx(2.0, rel=1e-9)
    assert frontier.share(point) == pytest.approx(1.0, rel=1e-9)
    ends = [frontier.reward_at(point.kl + step) for step in (-1e-4, 1e-4)]
    assert (ends[1] - ends[0]) / 2e-4 == pytest.approx(0.5, abs=1e-5)  # its slope is β


def test_nothing_is_above_the_frontier() -> None:
    draw = torch.Generator().manual_seed(0)
    reference = torch.randn(3, 20, generator=draw, dtype=torch.float64).log_softmax(1)
    rewards = torch.randn(3, 20, generator=draw, dtype=torch.float64)
    frontier = Frontier(reference, rewards)
    for number in range(50):
        noise = torch.randn(3, 20, generator=draw, dtype=torch.float64)
        policy = (reference + number / 10 * rewards + noise).log_softmax(1)
        point = measure(policy, reference, rewards)
        assert point.reward <= frontier.reward_at(point.kl) + 1e-9
        assert frontier.share(point) < 1


def test_past_the_frontiers_end_the_best_answers_are_all() -> None:
    reference, rewards = wide([[0.5, 0.5]]).log(), wide([[1.0, 3.0]])
    frontier = Frontier(reference, rewards)
    assert frontier.reward_at(math.log(2) + 0.1) == 3.0
    with pytest.raises(ValueError, match=r"no policy on the frontier is 0\.8 nats"):
        frontier.slope_at(0.8)


def test_a_policy_that_never_gives_some_answers() -> None:
    reference, rewards = wide([[0.5, 0.5]]).log(), wide([[1.0, 3.0]])
    sure = wide([[0.0, 1.0]]).log()
    point = measure(sure, reference, rewards)
    assert point.kl == pytest.approx(math.log(2))
    assert (point.reward, point.entropy) == (3.0, 0.0)


def test_best_of_n_by_hand_and_ties_by_chance() -> None:
    """Of two draws from (.5, .3, .2) with scores 0, 1, 1: the first only if drawn twice."""
    found = best_of(2, wide([[0.5, 0.3, 0.2]]).log(), wide([[0.0, 1.0, 1.0]])).exp()
    assert torch.allclose(found, wide([[0.25, 0.75 * 0.6, 0.75 * 0.4]]))
    one = best_of(1, wide([[0.5, 0.3, 0.2]]).log(), wide([[0.0, 1.0, 1.0]])).exp()
    assert torch.allclose(one, wide([[0.5, 0.3, 0.2]]))


def test_best_of_n_agrees_with_drawing() -> None:
    draw = torch.Generator().manual_seed(4)
    p = wide([[0.1, 0.4, 0.3, 0.2]])
    scores = wide([[3.0, 0.0, 2.0, 1.0]])
    drawn = torch.multinomial(p.expand(40_000, 4), 3, replacement=True, generator=draw)
    best = drawn.gather(1, scores[0][drawn].argmax(1, keepdim=True))
    share = torch.bincount(best.flatten(), minlength=4) / len(best)
    assert torch.allclose(best_of(3, p.log(), scores).exp()[0], share.double(), atol=0.01)
