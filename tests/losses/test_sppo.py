from __future__ import annotations

from dataclasses import replace

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, wide

from palate.losses.registry import METHODS, find


def test_at_the_reference_the_loss_is_50() -> None:
    # η = 10, P = 1: (0 − 5)² + (0 + 5)²
    assert losses("sppo", [0.0], [0.0]) == [50.0]
    assert METHODS["sppo"].initial_loss == 50.0


def test_values_by_hand() -> None:
    # η = 4, P = ¾: target 4 · ¼ = 1; a = 3, b = 1: (3 − 1)² + (1 + 1)² = 8
    assert losses("sppo", [3.0], [1.0], eta=4.0, win_rate=0.75) == [8.0]


def test_each_answer_is_drawn_to_its_own_target() -> None:
    # 2(a − 2) and 2(b + 2) for η = 4, P = 1
    a, b = leaf([2.0, 3.0]), leaf([-2.0, 0.0])
    found = gradients(compute("sppo", paired(a, b), eta=4.0), a, b)
    assert found == [[0.0, 2.0], [0.0, 4.0]]


def test_it_sees_what_both_answers_gain() -> None:
    # c = 1 from the calibrated point: 1 + 1
    assert losses("sppo", [2.0, 3.0], [-2.0, -1.0], eta=4.0) == [0.0, 2.0]


def test_rewards_are_in_units_of_win_rates() -> None:
    # a/η: at the target, η(P − ½)/η = ½ above even
    out = compute("sppo", paired([5.0], [-5.0]))
    assert out.metrics["chosen_reward"].tolist() == [0.5]


@pytest.mark.parametrize("given", [{"eta": 0}, {"win_rate": 0.5}, {"win_rate": 1.1}])
def test_ranges(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "sppo", **given})


def test_a_judge_s_win_rates_are_the_targets() -> None:
    # η = 4: (a − 4(P_w − ½))² + (b − 4(P_l − ½))², a = 3, b = 1
    told = {"wins_chosen": wide([0.75, 1.0]), "wins_rejected": wide([0.5, 0.25])}
    batch = replace(paired([3.0, 3.0], [1.0, 1.0]), told=told)
    # (3 − 1)² + (1 − 0)²; (3 − 2)² + (1 + 1)²
    assert compute("sppo", batch, eta=4.0).loss_B.tolist() == [5.0, 5.0]
    # and the parameter is for pairs that nobody told of
    assert compute("sppo", batch, eta=4.0, win_rate=0.9).loss_B.tolist() == [5.0, 5.0]


def test_a_told_rate_above_one_half_pushes_both_answers_up() -> None:
    # of many answers the worse of two may win more than half of its games: 2(0 − 4 · ¼)
    told = {"wins_chosen": wide([1.0]), "wins_rejected": wide([0.75])}
    a, b = leaf([0.0]), leaf([0.0])
    batch = replace(paired(a, b), told=told)
    assert gradients(compute("sppo", batch, eta=4.0), a, b) == [[-4.0], [-2.0]]
