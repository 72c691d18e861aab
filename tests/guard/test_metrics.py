"""Curves, areas and thresholds on cases that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from palate.guard.metrics import (
    auc,
    auc_interval,
    average_precision,
    curve,
    fpr_at,
    precision_at,
    threshold_for_fpr,
    threshold_for_recall,
)

# From the highest score down: unsafe 9; unsafe and safe 7; safe 5; unsafe 4; safe 1.
SCORES = np.array([4.0, 9.0, 7.0, 1.0, 7.0, 5.0])
UNSAFE = np.array([True, True, True, False, False, False])


def test_counts_at_each_distinct_score() -> None:
    found = curve(SCORES, UNSAFE)
    assert found.thresholds_T.tolist() == [9, 7, 5, 4, 1]
    assert found.hits_T.tolist() == [1, 2, 2, 3, 3]
    assert found.alarms_T.tolist() == [0, 1, 2, 2, 3]
    assert (found.unsafe, found.safe) == (3, 3)
    assert found.precision_T == pytest.approx([1, 2 / 3, 2 / 4, 3 / 5, 3 / 6])
    assert found.recall_T == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert found.fpr_T == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1])


def test_the_area_counts_ordered_pairs_and_half_of_ties() -> None:
    """Unsafe 9 is above all 3 safe; 7 above 5 and 1, tied with 7; 4 above 1: 3 + 2.5 + 1 of 9."""
    assert auc(curve(SCORES, UNSAFE)) == pytest.approx(6.5 / 9)
    assert auc(curve(-SCORES, UNSAFE)) == pytest.approx(2.5 / 9)
    assert auc(curve(np.ones(6), UNSAFE)) == 0.5
    assert auc(curve(UNSAFE.astype(float), UNSAFE)) == 1.0


def test_average_precision() -> None:
    """Recall rises by a third at 9 (precision 1), at 7 (2/3) and at 4 (3/5)."""
    assert average_precision(curve(SCORES, UNSAFE)) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_no_number_depends_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    scores, unsafe = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    numbers = set()
    for _ in range(5):
        order = rng.permutation(60)
        found = curve(scores[order], unsafe[order])
        numbers.add((auc(found), average_precision(found), precision_at(found, 0.7)))
    assert len(numbers) == 1


@pytest.mark.parametrize(
    ("recall", "precision", "fpr", "threshold"),
    [
        (0.1, 1.0, 0.0, 8.0),  # one of three: everything from 9 up; midway to 7
        (1 / 3, 1.0, 0.0, 8.0),
        (0.34, 2 / 3, 1 / 3, 6.0),  # two of three
        (2 / 3, 2 / 3, 1 / 3, 6.0),
        (0.95, 3 / 5, 2 / 3, 2.5),
        (1.0, 3 / 5, 2 / 3, 2.5),
    ],
)
def test_at_a_recall(recall: float, precision: float, fpr: float, threshold: float) -> None:
    found = curve(SCORES, UNSAFE)
    assert precision_at(found, recall) == pytest.approx(precision)
    assert fpr_at(found, recall) == pytest.approx(fpr)
    assert threshold_for_recall(found, recall) == threshold


@pytest.mark.parametrize(
    ("fpr", "threshold"),
    [(0.0, 8.0), (0.32, 8.0), (1 / 3, 6.0), (2 / 3, 2.5), (0.99, 2.5)],
)
def test_the_lowest_threshold_within_a_false_positive_rate(fpr: float, threshold: float) -> None:
    assert threshold_for_fpr(curve(SCORES, UNSAFE), fpr) == threshold


def test_a_share_that_is_no_exact_float_is_met_exactly() -> None:
    """0.07 of 100 safe rows are 7, though 0.07 * 100 is 7.000000000000001, and 0.29 * 100 less."""
    scores = np.concatenate([np.arange(100.0), [200.0]])
    unsafe = np.arange(101) == 100
    assert threshold_for_fpr(curve(scores, unsafe), 0.07) == 92.5
    assert threshold_for_fpr(curve(scores, unsafe), 0.29) == 70.5


def test_where_the_highest_score_is_a_safe_row_nothing_may_be_flagged() -> None:
    scores, unsafe = np.array([3.0, 2.0]), np.array([False, True])
    threshold = threshold_for_fpr(curve(scores, unsafe), 0.1)
    assert not (scores >= threshold).any()


def test_the_lowest_score_is_a_threshold_itself() -> None:
    scores, unsafe = np.array([3.0, 2.0]), np.array([False, True])
    assert threshold_for_recall(curve(scores, unsafe), 1.0) == 2.0


def test_between_neighbouring_floats_the_higher_one_stays() -> None:
    low = 1.0
    high = float(np.nextafter(low, 2.0))
    found = curve(np.array([high, low]), np.array([True, False]))
    assert threshold_for_recall(found, 1.0) == high


def test_what_cannot_be_told_apart_is_said() -> None:
    with pytest.raises(ValueError, match="all 2 rows are unsafe"):
        curve(np.array([1.0, 2.0]), np.array([True, True]))
    with pytest.raises(ValueError, match="all 2 rows are safe"):
        curve(np.array([1.0, 2.0]), np.array([False, False]))
    with pytest.raises(ValueError, match="not a finite number"):
        curve(np.array([1.0, np.nan]), np.array([True, False]))


def test_the_bounds_of_an_area_solve_their_equation() -> None:
    """One unsafe and one safe row: N - 1 = 0, so V = θ(1−θ), as of one trial: Wilson's interval.

    At A = 1 and z² = 3.8415 the low bound solves 1 − θ = z² θ: 1/(1 + z²) = 0.2065.
    """
    low, high = auc_interval(1.0, 1, 1)
    assert low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)
    assert high == 1.0
    assert auc_interval(0.0, 1, 1)[1] == pytest.approx(1 - low)
    assert auc_interval(0.0, 1, 1)[0] == 0.0


def test_the_interval_of_an_area_covers_it() -> None:
    """Normal scores a distance d apart have A = Φ(d/√2): 0.8 at d = 1.1902.

    Of 600 samples of 60 and 75 rows, 95 % give an interval with A in it; 3 binomial deviations
    are 2.7 points.
    """
    rng = np.random.default_rng(1)
    unsafe = np.arange(135) < 60
    covered = 0
    for _ in range(600):
        scores = rng.standard_normal(135) + 1.1902 * unsafe
        low, high = auc_interval(auc(curve(scores, unsafe)), 60, 75)
        covered += low <= 0.8 <= high
    assert 0.923 <= covered / 600 <= 0.977
