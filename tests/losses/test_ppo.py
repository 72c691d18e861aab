from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute, gradients, leaf, wide

from palate.losses.credit import Credit, Scored
from palate.losses.ppo import PPO, adapted, initial_state
from palate.losses.samples import Samples


def credit(known: Scored, beta: float = 0.1, **given: float) -> Credit:
    method, params = as_given("ppo", beta=beta, **given)
    assert method.credit is not None
    assert method.credit_state is not None
    return method.credit(known, params, method.credit_state(params))


# r = 2 at the end, β = 0.1: rewards −0.1, 0, 2 + 0.2
THREE = scored([2.0], [0], [3], ratio=[1.0, 0.0, -2.0], value=[0.5, 1.0, 1.5])


def test_three_tokens_by_hand() -> None:
    # γ = 1, λ = ½: δ = (−0.1 + 1 − 0.5, 0 + 1.5 − 1, 2.2 − 1.5) = (0.4, 0.5, 0.7)
    # A = (0.4 + ½ · 0.85, 0.5 + ½ · 0.7, 0.7) = (0.825, 0.85, 0.7); R = A + V
    found = credit(THREE, lam=0.5)
    assert found.return_N is not None
    assert found.return_N.tolist() == pytest.approx([1.325, 1.85, 2.2], abs=1e-12)
    # whitened: mean 2.375/3, deviations (0.1, 0.175, −0.275)/3, variance of their squares over 2
    deviations = [0.1 / 3, 0.175 / 3, -0.275 / 3]
    std = math.sqrt(sum(d * d for d in deviations) / 2)
    expected = [d / std for d in deviations]
    assert found.advantage_N.tolist() == pytest.approx(expected, abs=1e-6)


def test_at_lambda_1_the_returns_are_the_rewards_to_go() -> None:
    found = credit(THREE, lam=1.0)
    assert found.return_N is not None
    assert found.return_N.tolist() == pytest.approx([2.1, 2.2, 2.2], abs=1e-12)


def test_advantages_are_whitened_over_the_whole_rollout() -> None:
    known = scored([1.0, 3.0], [0, 1], [1, 1], ratio=[0.0, 0.0], value=[0.0, 0.0])
    root = math.sqrt(0.5)  # deviations ∓1 over √2
    assert credit(known).advantage_N.tolist() == pytest.approx([-root, root], abs=1e-7)


def beta_after(kl: float, answers: int = 64) -> float:
    params = PPO(beta=0.1, target_kl=6.0, horizon=10_000)
    return float(adapted(initial_state(params)["beta"], kl, answers, params))


def test_beta_follows_the_kl() -> None:
    # e = KL/6 − 1 within ±0.2, β(1 + 64e/10000)
    assert beta_after(6.0) == pytest.approx(0.1, abs=1e-15)
    assert beta_after(6.6) == pytest.approx(0.1 * (1 + 0.1 * 0.0064), abs=1e-12)
    assert beta_after(5.4) == pytest.approx(0.1 * (1 - 0.1 * 0.0064), abs=1e-12)
    assert beta_after(100.0) == pytest.approx(0.1 * (1 + 0.2 * 0.0064), abs=1e-12)
    assert beta_after(-3.0) == pytest.approx(0.1 * (1 - 0.2 * 0.0064), abs=1e-12)
    assert beta_after(6.6, answers=128) == pytest.approx(0.1 * (1 + 0.1 * 0.0128), abs=1e-12)


def test_a_rollout_is_charged_with_the_beta_before_it() -> None:
    # the answer's KL is 1 + 0 − 2 = −1: e = −0.2, one answer: β(1 − 0.2/100)
    found = credit(THREE, beta=0.1, target_kl=5.0, horizon=100, lam=1.0)
    assert found.return_N is not None
    assert found.return_N.tolist() == pytest.approx([2.1, 2.2, 2.2], abs=1e-12)
    assert found.metrics["beta"] == 0.1
    assert found.state["beta"].item() == pytest.approx(0.0998, abs=1e-12)
    assert credit(THREE).state["beta"].item() == 0.1, "fixed without a target"
    method, params = as_given("ppo", beta=0.7, lam=1.0)
    assert method.credit is not None
    later = method.credit(THREE, params, {"beta": torch.tensor(0.1, dtype=torch.float64)})
    assert later.return_N is not None
    assert later.return_N.tolist() == pytest.approx([2.1, 2.2, 2.2]), "the state's, not the start's"


def valued(value: list[float], old: list[float], returns: list[float]) -> Samples:
    """One answer whose policy stands still and whose advantage is 0."""
    batch = samples([-1.0] * len(value), [float(len(value))], [0.0])
    return replace(batch, value_N=leaf(value), old_value_N=wide(old), return_N=wide(returns))


@pytest.mark.parametrize(
    ("value", "old", "returned", "error", "slope"),
    [
        (1.0, 0.9, 0.0, 0.5, 1.0),  # within the clip: ½(1 − 0)²
        (1.0, 0.5, 0.0, 0.5, 1.0),  # the clip's 0.7 is nearer: the larger error counts
        (1.0, 0.5, 2.0, 0.845, 0.0),  # the clip's 0.7 is farther: ½ · 1.3², without a gradient
        (0.0, 0.5, 2.0, 2.0, -2.0),  # moved away from the return: ½ · 2²
    ],
)
def test_the_value_moves_at_most_by_its_clip(
    value: float, old: float, returned: float, error: float, slope: float
) -> None:
    batch = valued([value], [old], [returned])
    out = compute("ppo", batch, value_weight=0.3)
    assert out.loss_B.tolist() == pytest.approx([0.3 * error], abs=1e-12)
    assert batch.value_N is not None
    assert gradients(out, batch.value_N)[0] == pytest.approx([0.3 * slope], abs=1e-12)
    assert out.metrics["value_loss"].tolist() == pytest.approx([error], abs=1e-12)


def test_policy_and_value_by_hand() -> None:
    # tokens: −min(1.1 · 1, 1.1) and −min(1.5 · 1, 1.2): −2.3/2; errors ½ · 1 and 0 at weight 0.1
    logp = [-1 + math.log(1.1), -1 + math.log(1.5)]
    batch = samples(logp, [2.0], [1.0], old=[-1.0, -1.0])
    still = wide([1.0, 2.0])
    batch = replace(batch, value_N=still, old_value_N=still, return_N=wide([0.0, 2.0]))
    out = compute("ppo", batch)
    assert out.loss_B.tolist() == pytest.approx([-1.15 + 0.1 * 0.25], abs=1e-12)
    assert out.metrics["clipped"].tolist() == [0.5]
    assert out.metrics["value"].tolist() == [1.5]
