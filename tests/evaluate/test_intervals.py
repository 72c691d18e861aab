"""Intervals against the values printed in the papers, and against algebra done by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from palate.evaluate.intervals import (
    bootstrap_sums,
    cluster_mean,
    newcombe,
    newcombe_paired,
    percentile_interval,
    square_and_add,
    student_quantile,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_when_all_or_none_pass() -> None:
    # p = 0: center and half-width are both z^2/2n / (1 + z^2/n), so the bounds are 0 and
    # z^2/(n + z^2); with z^2 = 3.8415 and n = 16 that is 3.8415/19.8415 = 0.19361.
    assert wilson(0, 16) == pytest.approx((0.0, 0.19361), abs=1e-5)
    assert wilson(16, 16) == pytest.approx((0.80639, 1.0), abs=1e-5)
    assert wilson(16, 16)[1] == 1.0
    assert wilson(0, 16)[0] == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 4), (5, 4)])
def test_wilson_refuses_what_is_not_a_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson(successes, trials)


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:873-890, table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_newcombe_gives_the_published_intervals(
    a: int, m: int, b: int, n: int, low: float, high: float
) -> None:
    assert newcombe(a, m, b, n) == pytest.approx((low, high), abs=5e-5)


def test_newcombe_paired_gives_the_published_interval() -> None:
    # Bentur et al.'s 21 children, as worked in Fagerland, Lydersen and Laake 2014 (Statistics
    # in Medicine 33:2850-2875): 1 both, 1 before only, 7 after only, 12 neither: -0.507 to -0.026.
    assert newcombe_paired(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombe_paired_without_phi_is_the_independent_interval() -> None:
    # ad - bc = 1*12 - 1*7 = 5 lies below n/2 = 10.5, so phi is 0 (the case above); and with
    # an empty margin (all passed first, none second) phi is 0 by definition.
    assert newcombe_paired(1, 1, 7, 12) == pytest.approx(newcombe(2, 21, 8, 21))
    assert newcombe_paired(0, 16, 0, 0) == pytest.approx(newcombe(16, 16, 0, 16))


def test_newcombe_paired_phi_by_hand() -> None:
    # a=10, b=0, c=0, d=10: ad-bc = 100, less n/2 = 10 is 90; margins 10^4, root 100: phi = .9.
    # Both shares .5 with the same Wilson half-width w: 2 w^2 - 2 (.9) w^2 = .2 w^2.
    half = 0.5 - wilson(10, 20)[0]
    expected = math.sqrt(0.2) * half
    assert newcombe_paired(10, 0, 0, 10) == pytest.approx((-expected, expected))
    # a=0, d=0: ad-bc = -100 is kept whole, phi = -1: 2 w^2 + 2 w^2 = 4 w^2.
    assert newcombe_paired(0, 10, 10, 0) == pytest.approx((-2 * half, 2 * half))


def test_square_and_add_by_hand() -> None:
    # Distances 0.3 down and 0.4 to the other's upper bound: sqrt(.09 + .16) = .5;
    # up .2 and .0 to the other's lower bound: .2.
    low, high = square_and_add(0.8, (0.5, 1.0), 0.2, (0.2, 0.6))
    assert (low, high) == pytest.approx((0.6 - 0.5, 0.6 + 0.2))
    # With correlation .5 the cross terms are .3 * .4 = .12 and .1 * .05 = .005:
    # sqrt(.25 - .12) and sqrt(.01 + .0025 - .005).
    low, high = square_and_add(0.8, (0.5, 0.9), 0.2, (0.15, 0.6), correlation=0.5)
    assert (low, high) == pytest.approx((0.6 - math.sqrt(0.13), 0.6 + math.sqrt(0.0075)))


def test_student_quantiles_are_the_tabulated_ones() -> None:
    for degrees, value in ((1, 12.706), (2, 4.303), (9, 2.262), (15, 2.131), (30, 2.042)):
        assert student_quantile(0.95, degrees) == pytest.approx(value, abs=5e-4)
    assert student_quantile(0.95, 10**9) == pytest.approx(1.959964, abs=1e-6)


def test_bootstrap_draws_whole_clusters_and_is_seeded() -> None:
    values_GC = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    sums_RC = bootstrap_sums(values_GC, seed=3, resamples=500)
    assert sums_RC.shape == (500, 2)
    # Columns travel together, and three draws from {1, 2, 4} sum to at least 3 and at most 12.
    assert np.array_equal(sums_RC[:, 1], 10 * sums_RC[:, 0])
    assert set(sums_RC[:, 0]) <= {3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0}
    assert np.array_equal(sums_RC, bootstrap_sums(values_GC, seed=3, resamples=500))
    assert not np.array_equal(sums_RC, bootstrap_sums(values_GC, seed=4, resamples=500))


def test_bootstrap_in_blocks_covers_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.evaluate.intervals._DRAWS_AT_ONCE", 30)
    sums_RC = bootstrap_sums(np.ones((4, 1)), seed=0, resamples=25)
    assert np.array_equal(sums_RC, np.full((25, 1), 4.0))


def test_expanded_percentiles_reach_as_far_as_student() -> None:
    # For a mean over G clusters the bootstrap spread is sigma sqrt((G-1)/G) / sqrt(G); the
    # expanded interval is meant to end at the t interval. Two-valued clusters, 200 of each:
    # sd = sqrt(400/399)/2, t(399) = 1.966, half-width 1.966 * .50063/20 = .04921.
    values_GC = np.array([[0.0]] * 200 + [[1.0]] * 200)
    means_R = bootstrap_sums(values_GC, seed=0, resamples=40_000)[:, 0] / 400
    low, high = percentile_interval(means_R, 400)
    assert (high - low) / 2 == pytest.approx(0.04921, abs=0.0015)


def test_expanded_percentiles_by_hand() -> None:
    # Draws that are exactly normal: the tails at Phi(-r) are at -r and r themselves, with
    # r = sqrt(G/(G-1)) t(G-1); for 16 clusters sqrt(16/15) * 2.1314 = 2.2013.
    draws_R = np.array([NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)])
    assert percentile_interval(draws_R, 16) == pytest.approx((-2.2013, 2.2013), abs=0.002)
    with pytest.raises(ValueError, match="two clusters"):
        percentile_interval(draws_R, 1)


def test_cluster_mean_by_hand() -> None:
    # One member each, values 1, 2, 3, 6: mean 3, s^2 = (4+1+0+9)/3, se = sqrt(14/3/4).
    mean, error = cluster_mean(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4))
    assert (mean, error) == pytest.approx((3.0, math.sqrt(14 / 12)))
    # Clusters {2, 4} and {9}: mean 5; residuals 6 - 10 = -4 and 9 - 5 = 4;
    # se = sqrt(2/1 * (16 + 16)) / 3 = 8/3.
    mean, error = cluster_mean(np.array([6.0, 9.0]), np.array([2.0, 1.0]))
    assert (mean, error) == pytest.approx((5.0, 8 / 3))
    assert math.isnan(cluster_mean(np.array([1.0]), np.array([1.0]))[1])
