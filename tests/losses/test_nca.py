from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, softplus

from palate.losses.registry import METHODS


def test_at_the_reference_the_loss_is_2_ln_2() -> None:
    # (1 + ½ + ½) ln 2 = 1.386294
    assert losses("nca", [0.0], [0.0]) == pytest.approx([1.386294], abs=1e-6)
    assert METHODS["nca"].initial_loss == pytest.approx(2 * math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # β = ½, a = 2, b = −4: softplus(−1) + ½ softplus(1) + ½ softplus(−2)
    # = 0.313262 + 0.656631 + 0.063464 = 1.033357
    assert losses("nca", [2.0], [-4.0], beta=0.5) == pytest.approx([1.033357], abs=1e-6)


def test_the_chosen_answer_is_drawn_to_twice_the_reference() -> None:
    # dL/da ∝ −σ(−βa) + ½σ(βa), which is 0 where e^βa = 2, whatever the rejected answer does
    a, b = leaf([math.log(2) / 0.5] * 2), leaf([-3.0, 8.0])
    found = gradients(compute("nca", paired(a, b), beta=0.5), a, b)
    assert found[0] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert all(push > 0 for push in found[1])


def test_it_sees_what_both_answers_gain() -> None:
    # β = 1, c = 1 from 0: softplus(−1) + ½ softplus(1) + ½ softplus(1) = 1.626523, not 1.386294
    expected = softplus(-1.0) + softplus(1.0)
    assert losses("nca", [1.0], [1.0], beta=1.0) == pytest.approx([expected], abs=1e-12)
    assert expected == pytest.approx(1.626523, abs=1e-6)
