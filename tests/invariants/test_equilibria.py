"""Where learning from own samples ends, in games and worlds that can be solved on paper.

One prompt whose answers are single tokens, and a policy that is a table of logits. Expectations are
exact: every group of answers is listed and counts by its probability. Losses and credit are the
registry's own. Steps follow the natural gradient: with g the gradient of the logits (Σg = 0) and
F = diag(π) − ππᵀ their Fisher matrix, F(g/π) = g.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from palate.losses.batch import Context, State
from palate.losses.credit import Scored
from palate.losses.registry import find
from palate.losses.samples import Samples


def wide(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def apart(one: Tensor, other: Tensor) -> float:
    """Total variation."""
    return float((one - other).abs().sum() / 2)


@dataclass
class Learner:
    """A table of logits, and for some methods the value of the prompt, under one method."""

    given: dict[str, Any]
    reference: Tensor
    logits: Tensor
    value: float = 0.0
    state: State = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.method, self.params = find(self.given, sampled=True)
        if self.method.credit_state is not None:
            self.state = self.method.credit_state(self.params)

    @property
    def policy(self) -> Tensor:
        return self.logits.softmax(0)

    def learn(self, answers_KG: Tensor, reward_KG: Tensor, weight_K: Tensor, size: float) -> None:
        """One step from groups of answers, their rewards, and how often each group comes."""
        groups, each = answers_KG.shape
        answer_N, weight_N = answers_KG.flatten(), weight_K.repeat_interleave(each) / each
        logits = self.logits.clone().requires_grad_()
        value = wide([self.value]).requires_grad_()
        logp_N = logits.log_softmax(0)[answer_N]
        place_N = torch.arange(groups * each)
        value_N = value.expand(len(place_N)) if self.method.head == "value" else None
        known = Scored(
            reward_B=reward_KG.flatten(),
            group_B=place_N // each,
            length_B=torch.ones_like(place_N),
            branches_N=place_N,
            old_N=logp_N.detach(),
            ref_N=self.reference.log()[answer_N] if self.method.reference else None,
            value_N=None if value_N is None else value_N.detach(),
        )
        assert self.method.credit is not None
        credit = self.method.credit(known, self.params, self.state)
        batch = Samples(
            logp_N=logp_N,
            old_N=known.old_N,
            advantage_N=credit.advantage_N,
            branches_N=place_N,
            length_B=known.length_B,
            reward_B=known.reward_B,
            return_N=credit.return_N,
            old_value_N=known.value_N,
            value_N=value_N,
            ref_N=known.ref_N,
        )
        loss = (weight_N * self.method.loss(batch, self.params, Context()).loss_B).sum()
        slope, of_value = torch.autograd.grad(loss, [logits, value], allow_unused=True)
        assert abs(float(slope.sum())) < 1e-9
        self.logits = self.logits - size * slope / self.policy
        if of_value is not None:
            self.value -= float(of_value)
        self.state = credit.state


def tuples(count: int, length: int) -> Tensor:
    """All tuples of that many answers."""
    return torch.cartesian_prod(*[torch.arange(count)] * length).view(-1, length)


# A biased game of rock, paper and scissors -------------------------------------------------

# Rock beats scissors with ½ + 0.4, paper rock with ½ + 0.2, scissors paper with ½ + 0.25. At the
# equilibrium no answer wins more than ½: 0.4·S = 0.2·P, 0.2·R = 0.25·S, 0.25·P = 0.4·R. So each is
# played in proportion to the stakes of the game that it is not in: (0.25, 0.4, 0.2)/0.85.
WINS = wide([0.5, 0.3, 0.9, 0.7, 0.5, 0.25, 0.1, 0.75, 0.5]).view(3, 3)
EQUILIBRIUM = wide([0.25, 0.4, 0.2]) / 0.85
START = wide([0.2, 0.2, 0.6])


def test_the_equilibrium_is_one() -> None:
    torch.testing.assert_close(WINS + WINS.T, torch.ones_like(WINS))
    assert (WINS @ EQUILIBRIUM).tolist() == pytest.approx([0.5] * 3, abs=1e-12)
    assert apart(START, EQUILIBRIUM) > 0.3


@pytest.mark.parametrize("each", [2, 3])
def test_spo_reaches_the_equilibrium_on_average_and_circles_it(each: int) -> None:
    learner = Learner({"name": "spo"}, START, START.log())
    groups = tuples(3, each)
    # what the judge of pairs makes of a group: the share of the others that each answer beats
    games = WINS[groups[:, :, None], groups[:, None, :]]
    shares = (games.sum(-1) - 0.5) / (each - 1)
    total, nearest, steps = torch.zeros(3, dtype=torch.float64), 1.0, 1000
    # leave-one-out makes G/(G − 1) of the advantage: undone, so that one orbit serves all G
    size = 0.1 * (each - 1) / each
    for _ in range(steps):
        total += learner.policy
        nearest = min(nearest, apart(learner.policy, EQUILIBRIUM))
        learner.learn(groups, shares, learner.policy[groups].prod(-1), size)
    assert apart(total / steps, EQUILIBRIUM) < 0.02
    assert nearest > 0.1, "no iterate comes near: the average does"


def regularised(tau: float, reference: Tensor) -> Tensor:
    """The π with π ∝ π_ref e^{Pπ/τ}: by damped iteration, and then held against its equation."""
    policy = reference
    for _ in range(5_000):
        answer = (reference.log() + WINS @ policy / tau).softmax(0)
        policy = 0.99 * policy + 0.01 * answer
    assert apart(policy, (reference.log() + WINS @ policy / tau).softmax(0)) < 1e-10
    return policy


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("mixture", [0.0, 0.25])
def test_nash_md_ends_at_the_regularised_equilibrium(mixture: float, each: int) -> None:
    """In its last iterate.

    Policy gradient rests where π is the best answer to the mixture, π ∝ π_ref e^{Pπ_m/τ}. Then
    π_m ∝ π^(1−m) π_ref^m = π_ref e^{(1−m)Pπ_m/τ}: the mixture is the equilibrium at τ/(1 − m), and
    with m = 0 the policy itself that at τ.
    """
    tau, reference = 0.1, START
    given = {"name": "nash-md", "beta": tau, "mixture": mixture}
    learner = Learner(given, reference, wide([0.7, 0.2, 0.1]).log())
    rounds = tuples(3, 2 * each)
    own, others = rounds[:, :each], rounds[:, each:]
    for _ in range(400):
        opponent = ((1 - mixture) * learner.logits + mixture * reference.log()).softmax(0)
        weight = learner.policy[own].prod(-1) * opponent[others].prod(-1)
        learner.learn(own, WINS[own, others], weight, 0.4)
    balanced = regularised(tau / (1 - mixture), reference)
    expected = (reference.log() + WINS @ balanced / tau).softmax(0)
    assert apart(expected, reference) > 0.05
    assert apart(expected, EQUILIBRIUM) > 0.05, "the tie matters"
    assert apart(learner.policy, expected) < 1e-6
    opponent = ((1 - mixture) * learner.logits + mixture * reference.log()).softmax(0)
    assert apart(opponent, balanced) < 1e-6


# Five answers with known rewards, and the tie in the reward --------------------------------

REWARDS = wide([1.0, 0.5, 0.0, -0.5, -1.0])
UNEVEN = wide([0.1, 0.2, 0.4, 0.2, 0.1])
BETA = 0.5
# π_ref e^{r/β}/Z; its E[r] − β KL is β log Z = 0.542707 − ½ · 0.514619
OPTIMUM = wide([0.41754, 0.30721, 0.22603, 0.04158, 0.00765])
WORTH = 0.285397


@pytest.mark.parametrize("each", [2, 3])
def test_rloo_with_the_tie_in_the_reward_reaches_the_optimum(each: int) -> None:
    learner = Learner({"name": "rloo", "beta": BETA}, UNEVEN, UNEVEN.log())
    groups = tuples(5, each)
    for _ in range(80):
        learner.learn(groups, REWARDS[groups], learner.policy[groups].prod(-1), 0.5)
    assert apart(learner.policy, OPTIMUM) < 1e-5


@pytest.mark.parametrize("name", ["ppo", "reinforce++"])
def test_whitened_advantages_reach_it_too(name: str) -> None:
    # Whitening is of the answers as they come: one prompt each, as often as the policy says.
    # What is whitened does not grow smaller near the end, so the steps do.
    learner = Learner({"name": name, "beta": BETA}, UNEVEN, UNEVEN.log())
    count, size = 1000, 0.5
    for _ in range(80):
        answers = torch.arange(5).repeat_interleave((learner.policy * count).round().long())[
            :, None
        ]
        weight = torch.full((len(answers),), 1 / len(answers), dtype=torch.float64)
        learner.learn(answers, REWARDS[answers], weight, size)
        size *= 0.93
    assert apart(learner.policy, OPTIMUM) < 5e-3
    if name == "ppo":
        assert learner.value == pytest.approx(WORTH, abs=1e-2), "β log Z"


def test_a_tie_in_the_loss_is_another() -> None:
    # β·k3 in the loss has the forward KL's gradient, π − π_ref. Of groups of two r − mean is half
    # of what it is against the expectation r̄: at rest ½π_i(r_i − r̄) = β(π_i − π_ref,i)
    learner = Learner({"name": "dr-grpo", "beta": BETA, "longest": 1}, UNEVEN, UNEVEN.log())
    groups = tuples(5, 2)
    for _ in range(400):
        learner.learn(groups, REWARDS[groups], learner.policy[groups].prod(-1), 0.5)
    mean = float((learner.policy * REWARDS).sum())
    expected = BETA * UNEVEN / (BETA - (REWARDS - mean) / 2)
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-6)
    assert apart(learner.policy, expected) < 1e-6
