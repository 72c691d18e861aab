from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, gradients, leaf, losses, paired, softplus

from palate.losses.registry import METHODS, find


def test_at_the_reference() -> None:
    # m = ½: ½ ln 2 + ½ e^0 = 0.346574 + 0.5 = 0.846574
    assert losses("discopop", [0.0], [0.0]) == pytest.approx([0.846574], abs=1e-6)
    assert METHODS["discopop"].initial_loss == pytest.approx(0.846574, abs=1e-6)


def test_values_by_hand() -> None:
    # β = 1, τ = ½, z = ±½, so m = σ(±1) = 0.731059 or 0.268941.
    # +: 0.268941 · softplus(−½) + 0.731059 · e^−½ = 0.268941 · 0.474077 + 0.731059 · 0.606531
    #    = 0.127499 + 0.443410 = 0.570909
    # −: 0.731059 · 0.974077 + 0.268941 · 1.648721 = 0.712108 + 0.443409 = 1.155517
    found = losses("discopop", [0.5, -0.5], [0.0, 0.0], beta=1.0, temperature=0.5)
    assert found == pytest.approx([0.570909, 1.155517], abs=2e-6)


def test_it_is_logistic_on_the_left_and_exponential_on_the_right() -> None:
    # |z|/τ = 40: m is 0 or 1 up to e^−40
    left, right = losses("discopop", [-2.0, 2.0], [0.0, 0.0], beta=1.0)
    assert left == pytest.approx(softplus(2.0), abs=1e-12)
    assert right == pytest.approx(math.exp(-2.0), abs=1e-12)


def test_its_gradient_at_the_reference_points_the_wrong_way() -> None:
    # dL/dz = m'(e^−z − softplus(−z)) − (1 − m)σ(−z) − m e^−z; at 0, m' = 1/(4τ) = 5:
    # 5(1 − ln 2) − ¼ − ½ = 0.784264 > 0, so the margin falls; for β = 0.1 a tenth of it
    a = leaf([0.0])
    found = gradients(compute("discopop", paired(a, [0.0])), a)[0]
    assert found == pytest.approx([0.0784264], abs=1e-7)


def test_very_negative_margins_are_the_logistic_loss_and_not_nan() -> None:
    # e^−z alone is infinite at z = −1000, and its weight σ(−20000) is 0
    a = torch.tensor([-1e4], requires_grad=True)
    out = compute("discopop", paired(a, torch.tensor([0.0])))
    assert out.loss_B.tolist() == [1000.0]
    assert gradients(out, a)[0] == pytest.approx([-0.1])


def test_ranges() -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"method\.temperature of discopop"):
            find({"name": "discopop", "temperature": temperature})
