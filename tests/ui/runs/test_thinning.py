"""Thinning by hand: which points of a line stay."""

from __future__ import annotations

import numpy as np

from palate.ui.runs.thinning import thinned


def test_of_each_bucket_the_extremes_stay_and_the_ends() -> None:
    """Ten points, six kept: the ends, and of the inner eight, in two buckets of four, min and max.

    Inner values 3 1 4 1 | 5 9 2 6: of the first 1 (the first of two) and 4, of the second 9 and 2.
    """
    x = np.arange(10.0)
    y = np.array([7.0, 3, 1, 4, 1, 5, 9, 2, 6, 8])
    kept_x, kept_y = thinned(x, y, 6)
    assert kept_x.tolist() == [0, 2, 3, 6, 7, 9]
    assert kept_y.tolist() == [7, 1, 4, 9, 2, 8]


def test_few_points_all_stay() -> None:
    x, y = thinned(np.array([1.0, 2, 3]), np.array([5.0, 4, 3]), 100)
    assert (x.tolist(), y.tolist()) == ([1, 2, 3], [5, 4, 3])


def test_a_single_peak_among_a_hundred_thousand_is_seen() -> None:
    y = np.zeros(100_000)
    y[77_777], y[123] = 9.0, -9.0
    x, y = thinned(np.arange(100_000.0), y, 1000)
    assert 77_777 in x.tolist()
    assert y.max() == 9
    assert y.min() == -9
    assert len(x) <= 1000


def test_a_range_is_asked_for_again_with_a_neighbour_on_each_side() -> None:
    """Steps 0, 10, … 990; between 95 and 130 lie 100 to 130, and 90 and 140 stand beside them."""
    x = 10 * np.arange(100.0)
    kept, _ = thinned(x, x, 50, 95, 130)
    assert kept.tolist() == [90, 100, 110, 120, 130, 140]


def test_what_is_no_number_is_left_out() -> None:
    y = np.array([1.0, np.nan, 3.0, np.inf, -np.inf])
    x, kept = thinned(np.arange(5.0), y, 10)
    assert (x.tolist(), kept.tolist()) == ([0, 2], [1, 3])


def test_nothing_gives_nothing() -> None:
    x, y = thinned(np.array([]), np.array([]), 10)
    assert len(x) == len(y) == 0
    x, _ = thinned(np.arange(5.0), np.full(5, np.nan), 10)
    assert len(x) == 0


def test_rows_that_do_not_fill_the_buckets() -> None:
    """1003 inner points in 7 buckets of 144, the last one shorter: the places stay in range."""
    y = np.arange(1005.0)
    x, kept = thinned(y, y, 16)
    assert x.tolist() == kept.tolist() == sorted(set(kept.tolist()))
    assert kept[0] == 0
    assert kept[-1] == 1004
    assert len(kept) == 16
