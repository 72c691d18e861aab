from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, gradients, leaf, losses, paired, softplus, wide
from torch import Tensor

from palate.losses.f_dpo import DIVERGENCES, FDPO, derivative
from palate.losses.registry import METHODS, find

LN2 = math.log(2)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_at_the_reference_the_loss_is_ln_2(divergence: str) -> None:
    found = losses("f-dpo", [0.0], [0.0], divergence=divergence)
    assert found == pytest.approx([LN2], abs=1e-15)
    assert METHODS["f-dpo"].initial_loss == pytest.approx(LN2, abs=1e-15)


@pytest.mark.parametrize(
    ("divergence", "difference"),
    [
        ("reverse-kl", 2 * LN2),  # log 2 − log ½
        ("forward-kl", 1.5),  # −½ + 2
        ("js", LN2),  # log(4/3) − log(2/3)
        ("alpha", math.sqrt(2)),  # α = ½: 2(1 − 1/√2) − 2(1 − √2) = 2√2 − √2
    ],
)
def test_values_by_hand(divergence: str, difference: float) -> None:
    # u_w = 2 and u_l = ½, β = ½
    found = losses("f-dpo", [LN2], [-LN2], divergence=divergence, beta=0.5)
    assert found == pytest.approx([softplus(-0.5 * difference)], abs=1e-12)


def generator(divergence: str, u: Tensor, alpha: float) -> Tensor:
    """f of arXiv 2309.16240, table 1."""
    if divergence == "reverse-kl":
        return u * u.log()
    if divergence == "forward-kl":
        return -u.log()
    if divergence == "js":
        return u * u.log() - (u + 1) * ((u + 1) / 2).log()
    return (u ** (1 - alpha) - (1 - alpha) * u - alpha) / (alpha * (alpha - 1))


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_it_is_the_derivative_of_the_papers_f(divergence: str, alpha: float) -> None:
    # constants cancel between the two answers, so differences from u = 1 are compared
    u = torch.tensor([1.0, 0.03, 0.5, 2.0, 40.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(generator(divergence, u, alpha).sum(), u)
    found = derivative(u.detach().log(), FDPO(divergence=divergence, alpha=alpha))
    torch.testing.assert_close(found - found[0], slope - slope[0], rtol=1e-12, atol=1e-12)


def test_the_reverse_kl_is_dpo() -> None:
    a, b = [2.0, -3.0, 400.0], [-1.0, 1.0, -400.0]
    assert losses("f-dpo", a, b, divergence="reverse-kl") == losses("dpo", a, b)


def test_alpha_lies_between_the_reverse_kl_and_the_forward_kl() -> None:
    # (1 − u^−α)/α: log u as α → 0 (the next term is −α(log u)²/2), 1 − 1/u at α = 1
    a, b = [1.0, -0.5], [-1.0, 1.5]
    low = losses("f-dpo", a, b, divergence="alpha", alpha=1e-7)
    assert low == pytest.approx(losses("dpo", a, b), abs=1e-6)
    high = losses("f-dpo", a, b, divergence="alpha", alpha=1 - 1e-9)
    assert high == pytest.approx(losses("f-dpo", a, b, divergence="forward-kl"), abs=1e-7)


def test_it_sees_what_both_answers_gain_save_for_the_reverse_kl() -> None:
    # forward-kl from u = (1, 1/e) to (e, 1): −1 + e = 1.718282 becomes −1/e + 1 = 0.632121
    calm, moved = losses("f-dpo", [0.0, 1.0], [-1.0, 0.0], divergence="forward-kl", beta=1.0)
    assert calm == pytest.approx(softplus(1 - math.e), abs=1e-12)
    assert moved == pytest.approx(softplus(1 / math.e - 1), abs=1e-12)


@pytest.mark.parametrize(("divergence", "power"), [("forward-kl", 1.0), ("alpha", 0.5)])
def test_the_exponent_has_a_declared_clamp(divergence: str, power: float) -> None:
    # u = e^−x: (1 − e^(αx))/α, where αx stops at the clamp of 4, and the gradient with it
    params = FDPO(divergence=divergence, clamp=4.0)
    found = derivative(wide([-3.9 / power, -4.1 / power, -1e4]), params).tolist()
    end = (1 - math.exp(4.0)) / power
    assert found == pytest.approx([(1 - math.exp(3.9)) / power, end, end])
    b = leaf([-3.9 / power, -4.1 / power])
    out = compute("f-dpo", paired([0.0, 0.0], b), divergence=divergence, clamp=4.0)
    before, beyond = gradients(out, b)[0]
    assert before > 0
    assert beyond == 0


@pytest.mark.parametrize(
    "given", [{"divergence": "tv"}, {"alpha": 0}, {"alpha": 1}, {"clamp": 0}, {"beta": 0}]
)
def test_ranges(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "f-dpo", **given})
