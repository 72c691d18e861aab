"""Shares and differences with intervals that know of groups: answers to one prompt are alike.

Shape suffixes: N trials, G groups, K columns.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from palate.curate.lint.findings import Number

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCE = 0.95


def share(
    check: str, name: str, hits_N: Floats, groups_N: Ints | None = None, *, family: int = 1
) -> Number:
    """The mean of hits in [0, 1] as a share, with Wilson's interval on the effective count.

    Wilson 1927 (JASA 22:209) with n replaced by n_eff = m(1 − m) / v, where v is the variance of
    the mean over whole groups, n_eff at most n, and scaled by (z / t)² for few groups: Franco et
    al. 2019 (J. Survey Stat. Methodol. 7:334). `family` is how many such numbers are looked at
    together: the interval is that of confidence 1 − 0.05 / family. Needs at least one trial.
    """
    assert len(hits_N), "a share of nothing"
    value = float(np.mean(hits_N))
    confidence = 1 - (1 - CONFIDENCE) / family
    count = effective_count(hits_N, groups_N, confidence)
    low, high = wilson(value, count, confidence)
    return Number(check, name, value, low, high, len(hits_N))


def wilson(value: float, count: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share of `count` trials, which need not be a whole number.

    Center (p + z²/2n) / (1 + z²/n), half-width z √(p(1 − p)/n + z²/4n²) / (1 + z²/n).
    """
    z2 = _z(confidence) ** 2
    center = (value + z2 / (2 * count)) / (1 + z2 / count)
    spread = value * (1 - value) / count + z2 / (4 * count**2)
    half = (z2 * spread) ** 0.5 / (1 + z2 / count)
    return max(0.0, center - half), min(1.0, center + half)


def effective_count(hits_N: Floats, groups_N: Ints | None, confidence: float = CONFIDENCE) -> float:
    """How many independent trials say as much as these; the number of groups if all are alike."""
    count = len(hits_N)
    if groups_N is None:
        return float(count)
    sizes_G, sums_G = _by_group(np.ones(count), groups_N), _by_group(hits_N, groups_N)
    groups = len(sizes_G)
    if groups == count:
        return float(count)
    if groups == 1:
        return 1.0
    mean = float(np.mean(hits_N))
    if mean in (0.0, 1.0):
        return float(groups)
    variance = groups / (groups - 1) * float(((sums_G - mean * sizes_G) ** 2).sum()) / count**2
    plain = mean * (1 - mean) / variance if variance > 0 else float(count)
    few = (_z(confidence) / _t(confidence, groups - 1)) ** 2
    return max(1.0, min(float(count), plain) * few)


def mean_difference(check: str, name: str, differences_N: Floats, groups_N: Ints) -> Number:
    """The mean of differences in [−1, 1] with a normal interval over whole groups (Cochran 1977).

    The variance is that of the ratio estimator: G/(G − 1) Σ (s − m n)² / N².
    """
    count, mean = len(differences_N), float(np.mean(differences_N))
    sizes_G = _by_group(np.ones(count), groups_N)
    residuals_G = _by_group(differences_N, groups_N) - mean * sizes_G
    groups = len(sizes_G)
    if groups < 2:
        return Number(check, name, mean, -1.0, 1.0, count)
    error = (groups / (groups - 1) * float((residuals_G**2).sum())) ** 0.5 / count
    reach = _t(CONFIDENCE, groups - 1) * error
    return Number(check, name, mean, max(-1.0, mean - reach), min(1.0, mean + reach), count)


def win_rate(
    check: str,
    name: str,
    features_NK: Floats,
    groups_N: Ints,
    *,
    family: int = 1,
) -> Number:
    """How often the answer with more of column 0 wins when the other columns are equal.

    A Bradley-Terry model without intercept: P(first beats second) = σ(x·β), rows being winner
    minus loser. The number is σ(β₀). β has a normal prior of scale 2.5 (after Gelman et al. 2008,
    Ann. Appl. Stat. 2:1360), which keeps it finite where a feature always wins; its variance is
    the larger of the model's and the sandwich over whole groups.
    """
    prior = np.eye(features_NK.shape[1]) / 2.5**2
    beta_K = np.zeros(features_NK.shape[1])
    for _ in range(50):
        chance_N = sigmoid(features_NK @ beta_K)
        slope_K = features_NK.T @ (1 - chance_N) - prior @ beta_K
        curve_KK = (features_NK.T * (chance_N * (1 - chance_N))) @ features_NK + prior
        step_K = np.linalg.solve(curve_KK, slope_K)
        beta_K = beta_K + step_K
        if float(np.abs(step_K).max()) < 1e-9:
            break
    inverse_KK = np.linalg.inv(curve_KK)
    scores_NK = features_NK * (1 - sigmoid(features_NK @ beta_K))[:, None]
    scores_GK = np.stack([_by_group(column, groups_N) for column in scores_NK.T], axis=1)
    groups = len(scores_GK)
    inflate = groups / max(1, groups - 1)
    sandwich = inflate * float((inverse_KK @ (scores_GK.T @ scores_GK) @ inverse_KK)[0, 0])
    error = max(float(inverse_KK[0, 0]), sandwich) ** 0.5
    reach = _z(1 - (1 - CONFIDENCE) / family) * error
    value, low, high = (float(sigmoid(np.asarray(beta_K[0] + by))) for by in (0.0, -reach, reach))
    return Number(check, name, value, low, high, int(np.count_nonzero(features_NK[:, 0])))


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + e^−x), without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))


def _by_group(values_N: Floats, groups_N: Ints) -> Floats:
    _, at_N = np.unique(groups_N, return_inverse=True)
    return np.bincount(at_N, weights=values_N).astype(np.float64)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _t(confidence: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))
