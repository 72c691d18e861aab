"""Confidence intervals for shares and for differences of shares.

Pure functions of numbers. The closed forms (Wilson, Newcombe) treat trials as
independent, so they serve one answer per prompt; answers to the same prompt are
alike, so several of them go through the bootstrap that resamples whole prompts.

Shape suffixes: G clusters (prompts), C columns, R resamples.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 4_000_000  # numbers in one block of the bootstrap: 32 MB


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """The score interval of a share (Wilson 1927, JASA 22:209-212).

    Center (p + z^2/2n) / (1 + z^2/n), half-width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).
    Never empty, also at 0 and 1. Raises `ValueError` unless 0 <= successes <= trials > 0.
    """
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"{successes} of {trials} is not a share")
    share = successes / trials
    z2 = _z(confidence) ** 2
    center = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / trials)
    # At 0 and 1 the bound is the share itself; rounding must not put it a hair beside.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == trials else min(1.0, center + half)
    return low, high


def square_and_add(
    first: float, first_in: Interval, second: float, second_in: Interval, correlation: float = 0.0
) -> Interval:
    """The interval of `first - second` from an interval for each (Newcombe 1998, method 10).

    low  = d - sqrt(dl^2 - 2 r dl eu + eu^2), high = d + sqrt(du^2 - 2 r du el + el^2),
    where dl, du are the distances from `first` down and up to its bounds, el, eu those of
    `second`, and r is the correlation of the two estimates.
    """
    down, up = first - first_in[0], first_in[1] - first
    other_down, other_up = second - second_in[0], second_in[1] - second
    low = down**2 - 2 * correlation * down * other_up + other_up**2
    high = up**2 - 2 * correlation * up * other_down + other_down**2
    difference = first - second
    return difference - math.sqrt(max(0.0, low)), difference + math.sqrt(max(0.0, high))


def newcombe(
    successes: int, trials: int, other_successes: int, other_trials: int, confidence: float = 0.95
) -> Interval:
    """The interval of the difference of two independent shares, first minus other.

    Newcombe 1998, Statistics in Medicine 17:873-890, method 10.
    """
    return square_and_add(
        successes / trials,
        wilson(successes, trials, confidence),
        other_successes / other_trials,
        wilson(other_successes, other_trials, confidence),
    )


def newcombe_paired(
    both: int, first_only: int, second_only: int, neither: int, confidence: float = 0.95
) -> Interval:
    """The interval of the difference of two shares of the *same* trials, first minus second.

    The four counts say in how many trials both passed, only the first, only the second,
    neither. Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10: the Wilson
    intervals, joined with the phi coefficient of the fourfold table, whose numerator
    ad - bc is brought towards 0 by n/2 when it is positive. phi is 0 when a margin is empty.
    """
    n = both + first_only + second_only + neither
    first, second = both + first_only, both + second_only
    product = both * neither - first_only * second_only
    if product > 0:
        product_c: float = max(0.0, product - n / 2)
    else:
        product_c = product
    margins = first * (n - first) * second * (n - second)
    phi = product_c / math.sqrt(margins) if margins else 0.0
    return square_and_add(
        first / n,
        wilson(first, n, confidence),
        second / n,
        wilson(second, n, confidence),
        correlation=phi,
    )


def bootstrap_sums(values_GC: Floats, seed: int, resamples: int = 10_000) -> Floats:
    """Column sums of `resamples` samples of G clusters drawn with replacement: (R, C).

    A statistic of whole clusters (a ratio of two columns, a difference of ratios) is then
    one vector expression. Equal seeds give equal draws.
    """
    clusters, columns = values_GC.shape
    rng = np.random.default_rng(seed)
    out_RC = np.empty((resamples, columns))
    block = max(1, _DRAWS_AT_ONCE // clusters)
    chances = np.full(clusters, 1 / clusters)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        out_RC[start : start + size] = rng.multinomial(clusters, chances, size=size) @ values_GC
    return out_RC


def percentile_interval(draws_R: Floats, clusters: int, confidence: float = 0.95) -> Interval:
    """The expanded percentile interval of bootstrap draws over `clusters` clusters.

    Plain percentiles are too narrow for few clusters, by sqrt((G-1)/G) and by normal in place
    of t quantiles. Hesterberg 2015 (The American Statistician 69:371-386) takes the tails at
    Phi(-sqrt(G/(G-1)) t) instead, t being Student's quantile with G-1 degrees of freedom.
    """
    if clusters < 2:
        raise ValueError("a bootstrap interval needs at least two clusters")
    reach = math.sqrt(clusters / (clusters - 1)) * student_quantile(confidence, clusters - 1)
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(draws_R, [tail, 1 - tail])
    return float(low), float(high)


def student_quantile(confidence: float, degrees: int) -> float:
    """Two-sided Student quantile: `student_quantile(0.95, 15)` is 2.131.

    For one and two degrees exact: tan(pi c / 2), and c sqrt(2 / (1 - c^2)). Else the expansion in
    1/degrees of Abramowitz and Stegun 26.7.5; at 95 % it is right to three decimals from 6
    degrees on.
    """
    if degrees == 1:
        return math.tan(math.pi * confidence / 2)
    if degrees == 2:
        return confidence * math.sqrt(2 / (1 - confidence**2))
    z = _z(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum([z, *(term / float(degrees) ** k for k, term in enumerate(terms, start=1))])


def cluster_mean(sums_G: Floats, counts_G: Floats) -> tuple[float, float]:
    """The mean over all members of the clusters, and its standard error.

    From each cluster's sum s and count n: mean m = sum s / sum n, and
    se = sqrt(G/(G-1) * sum (s - m n)^2) / sum n (linearised ratio estimator, Cochran 1977,
    section 6.3). With one member per cluster it is the plain s/sqrt(n). One cluster: nan.
    """
    total = float(counts_G.sum())
    mean = float(sums_G.sum()) / total
    clusters = len(sums_G)
    if clusters < 2:
        return mean, math.nan
    residuals_G = sums_G - mean * counts_G
    spread = clusters / (clusters - 1) * float((residuals_G**2).sum())
    return mean, math.sqrt(spread) / total


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
