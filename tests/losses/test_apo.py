from __future__ import annotations

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, sigmoid

from palate.losses.registry import METHODS


@pytest.mark.parametrize("name", ["apo-zero", "apo-down"])
def test_at_the_reference_the_loss_is_1(name: str) -> None:
    # 1 − ½ + ½ and ½ + 1 − ½
    assert losses(name, [0.0], [0.0]) == [1.0]
    assert METHODS[name].initial_loss == 1.0


def test_values_by_hand() -> None:
    # β = ½, a = 2, b = −4. zero: 1 − σ(1) + σ(−2) = 0.268941 + 0.119203 = 0.388144
    # down: σ(1) + 1 − σ(3) = 0.731059 + 0.047426 = 0.778485
    assert losses("apo-zero", [2.0], [-4.0], beta=0.5) == pytest.approx([0.388144], abs=1e-6)
    assert losses("apo-down", [2.0], [-4.0], beta=0.5) == pytest.approx([0.778485], abs=1e-6)


def test_zero_lifts_the_chosen_answer_and_down_lowers_it() -> None:
    # at 0 with β = 1, σ' = ¼. zero: −¼ for a, +¼ for b.
    # down: σ'(0) − σ'(0) = 0 for a, and +¼ for b; where the margin is large only σ(βa) is left
    a, b = leaf([0.0, 0.0]), leaf([0.0, -30.0])
    zero = gradients(compute("apo-zero", paired(a, b), beta=1.0), a, b)
    assert zero[0] == pytest.approx([-0.25, -0.25])
    assert zero[1] == pytest.approx([0.25, 0.0], abs=1e-12)
    down = gradients(compute("apo-down", paired(a, b), beta=1.0), a, b)
    assert down[0] == pytest.approx([0.0, 0.25], abs=1e-12)
    assert down[1] == pytest.approx([0.25, 0.0], abs=1e-12)


@pytest.mark.parametrize("name", ["apo-zero", "apo-down"])
def test_it_sees_what_both_answers_gain(name: str) -> None:
    assert losses(name, [2.0], [-1.0]) != pytest.approx(losses(name, [7.0], [4.0]), abs=1e-3)


def test_zero_looks_at_each_answer_alone() -> None:
    # the sum of two bounded terms, one an answer
    first, second = losses("apo-zero", [2.0, 2.0], [-1.0, 5.0], beta=1.0)
    assert second - first == pytest.approx(sigmoid(5.0) - sigmoid(-1.0), abs=1e-12)
