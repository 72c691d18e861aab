from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, softplus

from palate.losses.registry import METHODS, find


def test_values_by_hand() -> None:
    # β = ¼, so the targets are ±2: a = 3, b = −1: softplus(−4) + ½[(3 − 2)² + (−1 + 2)²]
    # = 0.018150 + 1
    found = losses("cal-dpo", [3.0], [-1.0], beta=0.25)
    assert found == pytest.approx([1.018150], abs=1e-6)


def test_beta_is_not_in_the_logistic_term() -> None:
    # at the calibrated point a = −b = 1/(2β) the squares are 0: what is left is −log σ(1/β)
    assert losses("cal-dpo", [1.0], [-1.0], beta=0.5) == pytest.approx([softplus(-2.0)], abs=1e-12)
    assert losses("cal-dpo", [0.5], [-0.5], beta=1.0) == pytest.approx([softplus(-1.0)], abs=1e-12)


def test_at_the_reference_with_the_papers_beta() -> None:
    # ln 2 + ½ · 2 · 500²
    assert losses("cal-dpo", [0.0], [0.0]) == pytest.approx([250000 + math.log(2)], abs=1e-9)
    assert METHODS["cal-dpo"].initial_loss == pytest.approx(250000 + math.log(2), abs=1e-9)


def test_the_chosen_answer_is_held_up() -> None:
    # dL/da = −σ(−h) + (a − 1/(2β)): below its target it is always pushed up, whatever b does
    a, b = leaf([0.0, 0.0]), leaf([-50.0, 50.0])
    found = gradients(compute("cal-dpo", paired(a, b), beta=0.5), a, b)
    assert found[0] == pytest.approx([-1.0, -2.0], abs=1e-12)
    # dL/db = σ(−h) + (b + 1/(2β)): −49 and 1 + 51
    assert found[1] == pytest.approx([-49.0, 52.0], abs=1e-12)


def test_it_sees_what_both_answers_gain() -> None:
    # from (1, −1) to (2, 0), targets ±1: ½(1 + 1) more
    calm, moved = losses("cal-dpo", [1.0, 2.0], [-1.0, 0.0], beta=0.5)
    assert moved - calm == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(ValueError, match="above"):
        find({"name": "cal-dpo", "beta": 0})
