from __future__ import annotations

import math

import pytest
import torch

from palate.losses.batch import Context, Pairs, Side
from palate.losses.dpo import DPO, dpo
from palate.losses.registry import METHODS


def pairs(a: list[float], b: list[float]) -> Pairs:
    """Pairs with these log-ratios; log-probs −10 and −20, lengths 5 and 4."""
    size = len(a)
    return Pairs(
        Side(torch.full((size,), -10.0), torch.tensor(a), torch.full((size,), 5)),
        Side(torch.full((size,), -20.0), torch.tensor(b), torch.full((size,), 4)),
    )


def test_at_the_reference_the_loss_is_ln_2() -> None:
    out = dpo(pairs([0.0, 0.0], [0.0, 0.0]), DPO(), Context())
    assert out.loss_B.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-7)
    assert METHODS["dpo"].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # β = 0.5, a = 2, b = -1: z = 1.5, −log σ(1.5) = log(1 + e^−1.5) = 0.201413
    # β = 0.5, a = −3, b = 1: z = −2, log(1 + e²) = 2.126928
    out = dpo(pairs([2.0, -3.0], [-1.0, 1.0]), DPO(beta=0.5), Context())
    assert out.loss_B.tolist() == pytest.approx([0.201413, 2.126928], abs=1e-6)
    assert out.metrics["margin"].tolist() == [1.5, -2.0]
    assert out.metrics["chosen_reward"].tolist() == [1.0, -1.5]
    assert out.metrics["rejected_reward"].tolist() == [-0.5, 0.5]
    assert out.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert out.metrics["abs_h"].tolist() == [3.0, 4.0]
    assert out.metrics["chosen_logp"].tolist() == [-10.0, -10.0]


def test_a_tie_is_half_right() -> None:
    assert dpo(pairs([1.0], [1.0]), DPO(), Context()).metrics["accuracy"].tolist() == [0.5]


def test_gradient_by_hand() -> None:
    # d/da −log σ(β(a−b)) = −β σ(−z); at z = 0 that is −β/2
    a = torch.tensor([0.0], requires_grad=True)
    b = torch.tensor([0.0], requires_grad=True)
    side = torch.tensor([-1.0])
    batch = Pairs(Side(side, a, torch.tensor([1])), Side(side, b, torch.tensor([1])))
    dpo(batch, DPO(beta=0.3), Context()).loss_B.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() == pytest.approx(-0.15)
    assert b.grad.item() == pytest.approx(0.15)


def test_it_is_blind_to_what_both_answers_gain() -> None:
    left = dpo(pairs([2.0], [-1.0]), DPO(), Context())
    right = dpo(pairs([7.0], [4.0]), DPO(), Context())
    assert torch.equal(left.loss_B, right.loss_B)


def test_large_margins_stay_finite() -> None:
    out = dpo(pairs([1e5, -1e5], [-1e5, 1e5]), DPO(), Context())
    assert out.loss_B.tolist() == pytest.approx([0.0, 2e4])


def test_the_optimum_of_a_world_that_can_be_solved_on_paper() -> None:
    """Five answers, Bradley-Terry labels for all ordered pairs: dpo reaches π_ref e^{r/β}/Z.

    r = (1, .5, 0, −.5, −1), π_ref = (.1, .2, .4, .2, .1), β = .5 (METHODS, arXiv 2305.18290 eq. 4).
    """
    rewards = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0], dtype=torch.float64)
    reference = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1], dtype=torch.float64)
    logits = reference.log().clone().requires_grad_()
    first, second = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    keep = first != second
    w, rej = first[keep], second[keep]
    weight = torch.sigmoid(rewards[w] - rewards[rej])
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        ratio = logits.log_softmax(0) - reference.log()
        ones = torch.ones(len(w))
        batch = Pairs(Side(ratio[w], ratio[w], ones), Side(ratio[rej], ratio[rej], ones))
        loss = (weight * dpo(batch, DPO(beta=0.5), Context()).loss_B).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    policy = logits.detach().softmax(0)
    expected = [0.41754, 0.30721, 0.22603, 0.04158, 0.00765]
    assert policy.tolist() == pytest.approx(expected, abs=1e-5)
    assert float((policy * rewards).sum()) == pytest.approx(0.542707, abs=1e-5)
    assert float((policy * (policy / reference).log()).sum()) == pytest.approx(0.514619, abs=1e-5)
