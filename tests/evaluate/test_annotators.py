"""Figures of annotators with their intervals, against closed forms and hand counts."""

from __future__ import annotations

from statistics import NormalDist

import pytest
from tests.judge import pandalm

from palate.evaluate.annotators import (
    Figure,
    alpha_figure,
    raw_agreement,
    share_figure,
    sign_test,
)
from palate.evaluate.intervals import wilson

AGREED, DIVIDED = ("first", "first"), ("first", "second")


def test_what_nobody_saw_twice_has_no_figure() -> None:
    assert alpha_figure([("first",), ()]) == Figure(
        None, None, None, 0, "no item has two votes yet"
    )
    assert raw_agreement([("first",)]) == Figure(None, None, None, 0, "no item has two votes yet")
    assert share_figure(0, 0, "no votes") == Figure(None, None, None, 0, "no votes")


def test_alpha_without_variation_or_with_little() -> None:
    assert alpha_figure([AGREED, AGREED]).why == "every vote is the same word"
    few = alpha_figure([AGREED, ("second", "second")] * 10 + [DIVIDED] * 4)
    assert few.value is not None
    assert few.low is few.high is None
    assert few.why == "no interval: it takes 5 items on which people disagree, and there are 4"
    few = alpha_figure([AGREED] * 4 + [DIVIDED] * 9)
    assert few.why == "no interval: it takes 5 items on which people agree, and there are 4"
    assert alpha_figure([AGREED, ("second", "second")] * 10 + [DIVIDED] * 5).why == ""


def test_alpha_of_a_published_test_set_has_the_interval_of_the_delta_method() -> None:
    found = alpha_figure(pandalm.units())
    assert (found.count, found.why) == (999, "")
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    # α ≈ 1 − D/E with D = Σ d_u / n, where d_u = 4/2 = 2 for 120 of 999 units, and n = 2 997; the
    # shares of words that E is made of hardly move. SE(D) = (2/3)·√(p(1 − p)/999), p = 120/999.
    p = 120 / 999
    expected = (8_982_009 - 3_686_357) / 2997**2
    error = 2 / 3 * (p * (1 - p) / 999) ** 0.5 / expected
    half = NormalDist().inv_cdf(0.975) * error
    assert found.value - found.low == pytest.approx(half, rel=0.08)
    assert found.high - found.value == pytest.approx(half, rel=0.08)


def test_raw_agreement_of_two_votes_an_item_is_wilsons() -> None:
    found = raw_agreement([AGREED] * 7 + [DIVIDED] * 3 + [("first",)])
    assert found == Figure(0.7, *wilson(7, 10), 10)


def test_raw_agreement_counts_pairs_of_votes() -> None:
    # Three alike: 3 of 3 pairs; two and one: 1 of 3; two apart: 0 of 1. 4 of 7 over three items,
    # too few to resample.
    found = raw_agreement([("a", "a", "a"), ("a", "a", "b"), ("a", "b")])
    assert found == Figure(4 / 7, *wilson(3 * 4 / 7, 3), 3)


def test_raw_agreement_is_resampled_by_items() -> None:
    # 60 items with 3 of 3 pairs and 40 with 1 of 3: 220 of 300. The share of an item is 1 or 1/3,
    # so that SE = (2/3)·√(.6·.4/100) = .03266.
    found = raw_agreement([("a", "a", "a")] * 60 + [("a", "a", "b")] * 40)
    assert found.value == pytest.approx(220 / 300)
    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(220 / 300 - 1.96 * 0.03266, abs=0.006)
    assert found.high == pytest.approx(220 / 300 + 1.96 * 0.03266, abs=0.006)
    # Were the pairs independent, as they are not, SE were √(.733·.267/300) = .0255.
    assert found.high - found.low > 2 * 1.96 * 0.0255 * 1.1


def test_shares_have_wilsons_interval() -> None:
    assert share_figure(6, 8, "none") == Figure(0.75, *wilson(6, 8), 8)


def test_the_sign_test_sums_the_tail() -> None:
    # (1 + 10 + 45)/1024 twice; 1/32 twice.
    assert sign_test(8, 10) == sign_test(2, 10) == pytest.approx(112 / 1024)
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    # In the middle all outcomes are as likely or less: p = 1. Of 3 likewise: (1 + 3)/8 twice.
    assert sign_test(5, 10) == sign_test(0, 0) == 1
    assert sign_test(1, 3) == pytest.approx(1)
    with pytest.raises(ValueError, match="4 of 3 is no"):
        sign_test(4, 3)


def test_the_sign_test_of_many_votes_is_nearly_normal() -> None:
    # n = 50,000, σ = √(n)/2 = 111.8; with the continuity correction z = 299.5/σ.
    z = 299.5 / (50_000**0.5 / 2)
    assert sign_test(25_300, 50_000) == pytest.approx(2 * NormalDist().cdf(-z), rel=1e-3)
    assert sign_test(0, 100_000) == 0
