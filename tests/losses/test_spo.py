from __future__ import annotations

import pytest
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute

from palate.losses.registry import METHODS


def advantages(reward: list[float], group: list[int], **given: float) -> list[float]:
    method, params = as_given("spo", **given)
    assert method.credit is not None
    found: list[float] = method.credit(scored(reward, group), params, {}).advantage_N.tolist()
    return found


def test_the_shares_of_a_group_have_mean_one_half() -> None:
    # A beats B and C, B beats C: shares of the two others 1, ½, 0; every game has one winner, so
    # the mean is ½ and A = G/(G − 1)·(share − ½) = 3/2 · (½, 0, −½)
    assert advantages([1.0, 0.5, 0.0], [0, 0, 0]) == pytest.approx([0.75, 0.0, -0.75], abs=1e-12)


def test_a_circle_of_preferences_teaches_nothing() -> None:
    assert advantages([0.5, 0.5, 0.5], [0, 0, 0]) == [0.0, 0.0, 0.0]


def test_two_answers_and_a_judge_that_is_not_sure() -> None:
    # P = 0.7: 2 · (0.7 − ½)
    assert advantages([0.7, 0.3], [0, 0]) == pytest.approx([0.4, -0.4], abs=1e-12)


def test_the_tie_is_off_unless_it_is_asked_for() -> None:
    method, params = as_given("spo", beta=0.5)
    assert method.credit is not None
    # R = (0.7 − ½ · 1, 0.3 + ½ · 1)
    known = scored([0.7, 0.3], [0, 0], ratio=[1.0, -1.0])
    found = method.credit(known, params, {}).advantage_N.tolist()
    assert found == pytest.approx([-0.6, 0.6], abs=1e-12)
    assert not as_given("spo")[0].reference


def test_it_asks_a_judge_of_pairs_about_its_own_samples() -> None:
    online = METHODS["spo"].online
    assert online is not None
    assert (online.judge, online.against, online.least) == ("preference", "own", 2)


def test_the_loss_is_rloo_s() -> None:
    batch = samples([-1.0, -2.0, -0.5], [2.0, 1.0], [3.0, -5.0])
    assert compute("spo", batch).loss_B.tolist() == [-3.0, 5.0]
