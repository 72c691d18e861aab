"""What the loss must be: values by hand, its gradient, and IPO as its limit."""

from __future__ import annotations

import math

import pytest
import torch
from palate_cauchy import METHOD, CauchyIPO, cauchy_ipo
from torch import Tensor

from palate.losses.batch import Context, Pairs, Side


def _pairs(a: Tensor, b: Tensor) -> Pairs:
    """Pairs with these log-ratios; log-probs and lengths do not matter to this loss."""
    sides = [Side(torch.zeros_like(x), x, torch.ones_like(x)) for x in (a, b)]
    return Pairs(*sides)


def _loss(h: float, params: CauchyIPO) -> float:
    a, b = torch.tensor([h], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return float(cauchy_ipo(_pairs(a, b), params, Context()).loss_B)


def test_values_by_hand() -> None:
    """The target is 1/(2·0.1) = 5: nothing to pay there, 25 ln 2 at h = 0 and at h = 10."""
    params = CauchyIPO()
    assert _loss(5.0, params) == 0
    assert _loss(0.0, params) == pytest.approx(25 * math.log(2))
    assert _loss(10.0, params) == pytest.approx(25 * math.log(2))
    assert METHOD.initial_loss == pytest.approx(25 * math.log(2))


def test_a_wide_one_is_ipo() -> None:
    """log(1 + x) → x, so that c² log(1 + (r/c)²) → r² as c grows: (3 − 5)² = 4."""
    assert _loss(3.0, CauchyIPO(width=1e4)) == pytest.approx(4, rel=1e-6)


def test_far_pairs_pull_less() -> None:
    """The gradient is 2r/(1 + (r/c)²): 5 at r = 5 = c, and 4 at r = 10."""
    for h, pull in ((10.0, 5.0), (15.0, 4.0)):
        a = torch.tensor([h], dtype=torch.float64, requires_grad=True)
        b = torch.zeros(1, dtype=torch.float64)
        cauchy_ipo(_pairs(a, b), CauchyIPO(), Context()).loss_B.sum().backward()
        assert a.grad is not None
        assert float(a.grad) == pytest.approx(pull)


def test_gradient() -> None:
    """Against finite differences, in float64."""
    a = torch.tensor([-3.0, 0.0, 7.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: cauchy_ipo(_pairs(a, b), CauchyIPO(), Context()).loss_B, (a, b)
    )
