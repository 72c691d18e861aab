from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, side, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def scores(w: list[float], rejected: list[float]) -> Pairs:
    zero = [0.0] * len(w)
    return Pairs(side(zero, score=w), side(zero, score=rejected))


def test_a_head_of_zeros_begins_at_ln_2() -> None:
    found = compute("reward", scores([0.0], [0.0])).loss_B.tolist()
    assert found == pytest.approx([math.log(2)], abs=1e-15)
    assert METHODS["reward"].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # r = 1 and −½, m = ½, c = 0.1: −log σ(1) + 0.1 · (½)² = 0.313262 + 0.025
    out = compute("reward", scores([1.0], [-0.5]), margin=0.5, center=0.1)
    assert out.loss_B.tolist() == pytest.approx([0.338262], abs=1e-6)
    assert out.metrics["margin"].tolist() == [1.5]
    assert out.metrics["accuracy"].tolist() == [1.0]
    assert compute("reward", scores([1.0], [1.0])).metrics["accuracy"].tolist() == [0.5]


def test_it_is_blind_to_a_shift_of_the_prompt_unless_centred() -> None:
    calm, moved = scores([1.0], [-0.5]), scores([4.0], [2.5])
    free = [compute("reward", x, center=0.0).loss_B.tolist() for x in (calm, moved)]
    assert free[0] == free[1] == pytest.approx([softplus(-1.5)])
    # (r_w + r_l)²: ¼ and 42.25, at c = 0.01 by default
    tied = [compute("reward", x).loss_B.item() for x in (calm, moved)]
    assert tied[1] - tied[0] == pytest.approx(0.42, abs=1e-12)


def test_gradient_by_hand() -> None:
    # d/dr_w = −σ(−(r_w − r_l)) + 2c(r_w + r_l), at r = (1, 1), c = 0.01: −½ + 0.04
    w, rejected = leaf([1.0]), leaf([1.0])
    batch = Pairs(side([0.0], score=w), side([0.0], score=rejected))
    found = gradients(compute("reward", batch), w, rejected)
    assert found == [[pytest.approx(-0.46)], [pytest.approx(0.54)]]


def test_it_reads_a_scalar_head_and_no_reference() -> None:
    method = METHODS["reward"]
    assert (method.head, method.reference, method.shape) == ("scalar", False, "pair")
    for given in ({"margin": -1}, {"center": -0.1}):
        with pytest.raises(ValueError, match=r"at least 0\.0"):
            find({"name": "reward", **given})
