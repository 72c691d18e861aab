"""From a head's log-odds to probabilities that mean what they say, and how far they do.

Pure functions of numbers. Shape suffix: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.evaluate.intervals import Interval, wilson
from palate.guard.metrics import Bools, Floats

_STEPS = 200
_ENOUGH = 1e-10  # largest gradient, a row


@dataclass(frozen=True, slots=True)
class Calibration:
    """log-odds = score / `temperature` + `bias`."""

    temperature: float = 1.0
    bias: float = 0.0

    def log_odds(self, scores_N: Floats) -> Floats:
        """Calibrated log-odds of unsafe."""
        return scores_N / self.temperature + self.bias

    def probabilities(self, scores_N: Floats) -> Floats:
        """Calibrated P(unsafe)."""
        return sigmoid(self.log_odds(scores_N))


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of similar probability: their number, mean probability, and share that is unsafe."""

    rows: int
    predicted: float
    observed: float
    interval: Interval


def sigmoid(log_odds_N: Floats) -> Floats:
    """1 / (1 + exp(−x)), without overflow."""
    half_N: Floats = 0.5 * np.tanh(0.5 * log_odds_N) + 0.5
    return half_N


def fit_calibration(scores_N: Floats, unsafe_N: Bools) -> Calibration:
    """Temperature and bias of least cross-entropy on rows that were not trained on.

    Platt 1999 (Advances in Large Margin Classifiers), with his targets (n₁+1)/(n₁+2) and
    1/(n₀+2), which keep the fit finite where the scores separate the classes; Newton's method with
    a line search, after Lin, Lin and Weng 2007, Machine Learning 68:267-276.

    Raises `ValueError` where one class is missing, the scores are all equal, or higher scores do
    not mean more unsafe rows.
    """
    unsafe = int(unsafe_N.sum())
    safe = len(unsafe_N) - unsafe
    if not unsafe or not safe:
        only = "safe" if not unsafe else "unsafe"
        raise ValueError(
            f"all {len(unsafe_N)} held-out rows are {only}: a guard is calibrated on both, so "
            "raise data.heldout or add rows"
        )
    center, scale = float(scores_N.mean()), float(scores_N.std())
    if scale == 0:
        raise ValueError(
            "the classifier gives all held-out rows the same score: it learned nothing"
        )
    target_N = np.where(unsafe_N, (unsafe + 1) / (unsafe + 2), 1 / (safe + 2))
    slope, offset = _newton((scores_N - center) / scale, target_N)
    if slope <= 0:
        raise ValueError(
            "the classifier scores held-out safe rows above unsafe ones: it learned nothing "
            "that holds for them; train longer or with more rows, or look at the labels "
            "(palate data lint)"
        )
    return Calibration(scale / slope, offset - slope * center / scale)


def _newton(x_N: Floats, target_N: Floats) -> tuple[float, float]:
    """The a and b of least Σ softplus(ax + b) − t (ax + b)."""

    def loss(at: Floats) -> float:
        z_N = at[0] * x_N + at[1]
        return float((np.logaddexp(0, z_N) - target_N * z_N).sum())

    rows_2N = np.stack([x_N, np.ones_like(x_N)])
    at = np.zeros(2)
    best = loss(at)
    for _ in range(_STEPS):
        p_N = sigmoid(at @ rows_2N)
        gradient = rows_2N @ (p_N - target_N)
        if float(np.abs(gradient).max()) <= _ENOUGH * len(x_N):
            break
        hessian = (rows_2N * (p_N * (1 - p_N))) @ rows_2N.T + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while (tried := loss(at - size * step)) > best and size > 1e-10:
            size /= 2
        if tried > best:  # no better to rounding
            break
        at, best = at - size * step, tried
    return float(at[0]), float(at[1])


def brier(p_N: Floats, unsafe_N: Bools) -> float:
    """Mean of (p − y)², y = 1 for unsafe (Brier 1950)."""
    return float(((p_N - unsafe_N) ** 2).mean())


def log_loss(log_odds_N: Floats, unsafe_N: Bools) -> float:
    """Mean cross-entropy in nats, from log-odds, which do not round to 0 and 1."""
    return float(np.logaddexp(0, np.where(unsafe_N, -log_odds_N, log_odds_N)).mean())


def reliability(p_N: Floats, unsafe_N: Bools, bins: int = 10) -> list[Bin]:
    """Bins of as equal numbers of rows as ties allow, from the lowest probability up.

    Rows of equal probability share a bin, so the order of the rows does not matter.
    """
    order_N = np.sort(p_N)
    bin_N = np.searchsorted(order_N, p_N, side="left") * bins // len(p_N)
    found = []
    for number in range(bins):
        inside_N = bin_N == number
        rows, unsafe = int(inside_N.sum()), int(unsafe_N[inside_N].sum())
        if rows:
            mean = float(p_N[inside_N].mean())
            found.append(Bin(rows, mean, unsafe / rows, wilson(unsafe, rows)))
    return found


def calibration_error(found: list[Bin]) -> float:
    """Expected calibration error: Σ rows/N · |predicted − observed| (Naeini et al. 2015).

    With few rows a bin it is above 0 also for perfect probabilities.
    """
    rows = sum(one.rows for one in found)
    return sum(one.rows * abs(one.predicted - one.observed) for one in found) / rows
