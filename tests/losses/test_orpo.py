from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, gradients, leaf, likely

from palate.losses.batch import Pairs
from palate.losses.orpo import log_odds
from palate.losses.registry import METHODS, find


def test_values_by_hand() -> None:
    # mean log-probs ln ½ (3 tokens) and ln ¼ (2): odds 1 and 1/3, their ratio 3.
    # ln 2 + λ softplus(−ln 3) = ln 2 + 0.1 · ln(4/3) = 0.693147 + 0.028768
    batch = Pairs(likely([3 * math.log(0.5)], [3.0]), likely([2 * math.log(0.25)], [2.0]))
    out = compute("orpo", batch)
    assert out.loss_B.tolist() == pytest.approx([0.721915], abs=1e-6)
    assert out.metrics["log_odds"].tolist() == pytest.approx([math.log(3)])
    assert out.metrics["nll"].tolist() == pytest.approx([math.log(2)])
    assert not METHODS["orpo"].reference


def test_gradient_by_hand() -> None:
    # d logit(e^x)/dx = 1/(1 − e^x): 2 at ln ½, 4/3 at ln ¼; softplus'(−ln 3) = ¼; λ = 1, 1 token
    w, rejected = leaf([math.log(0.5)]), leaf([math.log(0.25)])
    found = gradients(compute("orpo", Pairs(likely(w), likely(rejected)), odds=1.0), w, rejected)
    assert found[0] == pytest.approx([-1 - 0.5], abs=1e-12)
    assert found[1] == pytest.approx([1 / 3], abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odds_are_finite_with_finite_gradients_for_every_log_prob(dtype: torch.dtype) -> None:
    exact = [0.0, -1e-45, -1e-38, -1e-12, -1e-8, -1e-7, -1e-6, -1e-5, -0.1, -0.7, -1.0, -20.0]
    x = torch.tensor([*exact, -90.0, -1e3, -1e4], dtype=dtype, requires_grad=True)
    found = log_odds(x)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert torch.isfinite(found).all()
    assert torch.isfinite(slope).all()
    # log(p/(1 − p)), from the definition in float64 where that is not itself 0/0
    for value, logit in zip(exact[7:], found[7:].tolist(), strict=False):
        expected = value - math.log(-math.expm1(value))
        assert logit == pytest.approx(expected, rel=1e-6, abs=1e-6)
    # certain answers all count as 1 − 10⁻⁶, and rounding above 0 with them
    assert found[0].item() == pytest.approx(math.log(1e6), rel=1e-3)
    assert log_odds(torch.tensor([1e-4], dtype=dtype)).item() == found[0].item()


def test_without_odds_it_is_the_likelihood() -> None:
    batch = Pairs(likely([-6.0], [3.0]), likely([-1.0], [1.0]))
    assert compute("orpo", batch, odds=0.0).loss_B.tolist() == [2.0]
    with pytest.raises(ValueError, match="at least"):
        find({"name": "orpo", "odds": -0.1})
