"""Intervals of lint, against values derived by hand or published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate.curate.lint.findings import severity_of, worth
from palate.curate.lint.shares import (
    effective_count,
    mean_difference,
    share,
    sigmoid,
    wilson,
    win_rate,
)


def test_wilson_as_published() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0 / 20, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    # All of n: the lower bound is n / (n + z²) = 29 / 32.8415.
    assert wilson(1.0, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_twins_count_once() -> None:
    # 20 groups of two equal answers, half of them right. Mean 1/2, each group's residual ±1:
    # v = 20/19 · 20 / 40² = 1/76, n_eff = (1/4) / v = 19, times (1.95996 / 2.09302)² = 0.87690.
    hits = np.repeat([0.0, 1.0], 20)
    groups = np.repeat(np.arange(20), 2)
    assert effective_count(hits, groups) == pytest.approx(19 * 0.87690, abs=1e-3)
    assert effective_count(hits, np.arange(40)) == 40
    assert effective_count(hits, None) == 40


def test_groups_without_contrast_say_no_more_than_their_number() -> None:
    groups = np.repeat(np.arange(5), 8)
    assert effective_count(np.ones(40), groups) == 5
    assert effective_count(np.ones(40), np.zeros(40, dtype=int)) == 1


def test_a_group_that_balances_itself_is_not_worth_more_than_its_members() -> None:
    hits = np.tile([0.0, 1.0], 20)
    groups = np.repeat(np.arange(20), 2)
    assert effective_count(hits, groups) == pytest.approx(40 * 0.87690, abs=2e-3)


def test_a_family_of_numbers_has_wider_intervals() -> None:
    hits = np.repeat([0.0, 1.0], 50)
    alone, of_ten = share("c", "n", hits), share("c", "n", hits, family=10)
    # Bonferroni: z of 1 − 0.005/2 is 2.8070.
    z2 = 2.8070**2
    half = math.sqrt(z2 * (0.25 / 100 + z2 / 40_000)) / (1 + z2 / 100)
    assert of_ten.high == pytest.approx(0.5 + half, abs=1e-4)
    assert of_ten.high > alone.high
    assert (of_ten.value, of_ten.of) == (0.5, 100)


def test_a_difference_over_groups() -> None:
    # Differences 1, 0, 0, −1, 1 in their own groups: mean 0.2, Σ(d − m)² = 2.8,
    # error = sqrt(5/4 · 2.8) / 5 = 0.374166, t(4) = 2.776445: ± 1.038850, cut at 1.
    number = mean_difference("c", "n", np.array([1.0, 0, 0, -1, 1]), np.arange(5))
    assert number.value == pytest.approx(0.2)
    assert number.low == pytest.approx(0.2 - 1.038850, abs=1e-5)
    assert number.high == 1.0


def test_one_group_says_nothing_about_a_difference() -> None:
    number = mean_difference("c", "n", np.ones(9), np.zeros(9, dtype=int))
    assert (number.low, number.high) == (-1.0, 1.0)


def test_a_win_rate_without_other_columns_is_the_share() -> None:
    # 60 wins of 80: the penalised estimate solves 60 − 80 σ(β) = β/6.25, so σ(β) is just below
    # 3/4: β = ln 3 − ε with ε · 80 · 3/16 = ln 3 / 6.25, ε = 0.0117.
    rows = np.concatenate([np.ones((60, 1)), -np.ones((20, 1))])
    number = win_rate("c", "n", rows, np.arange(80))
    assert number.value == pytest.approx(1 / (1 + math.exp(-(math.log(3) - 0.0117))), abs=2e-4)
    # Information 80 · 3/16 = 15 gives an error of 0.257 in log odds.
    assert number.low == pytest.approx(1 / (1 + math.exp(-(1.087 - 1.96 * 0.257))), abs=4e-3)
    assert number.of == 80


def test_a_win_rate_is_taken_at_equal_length() -> None:
    """A mark that only ever stands in the longer answer, where the longer wins: it wins no more."""
    draw = np.random.default_rng(0)
    longer = np.where(draw.random(4000) < 0.8, 1.0, -1.0)  # winner minus loser
    mark = np.where(draw.random(4000) < 0.3, longer, 0.0)
    raw = win_rate("c", "n", mark[:, None], np.arange(4000))
    fair = win_rate("c", "n", np.column_stack([mark, longer]), np.arange(4000))
    assert raw.low > 0.7
    assert fair.low < 0.5 < fair.high


def test_a_mark_that_always_wins_has_a_finite_rate() -> None:
    number = win_rate("c", "n", np.ones((30, 1)), np.arange(30))
    assert 0.8 < number.low < number.value < number.high < 1.0


def test_twins_widen_a_win_rate() -> None:
    rows = np.concatenate([np.ones((60, 1)), -np.ones((20, 1))])
    alone = win_rate("c", "n", rows, np.arange(80))
    twins = win_rate("c", "n", np.repeat(rows, 4, axis=0), np.repeat(np.arange(80), 4))
    single = win_rate("c", "n", np.repeat(rows, 4, axis=0), np.arange(320))
    assert twins.high - twins.low > 1.8 * (single.high - single.low)
    assert twins.high - twins.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_what_a_rule_is_worth() -> None:
    # 1 − H(a)/ln 2: at 3/4, H = 0.75 ln(4/3) + 0.25 ln 4 = 0.562335, so 0.188722.
    assert worth(0.75) == pytest.approx(0.188722, abs=1e-6)
    assert worth(0.5) == pytest.approx(0.0, abs=1e-12)
    assert (worth(1.0), worth(0.0)) == (1.0, 1.0)
    assert [severity_of(low) for low in (0.55, 0.56, 0.65, 0.66)] == [
        None,
        "note",
        "note",
        "warning",
    ]
