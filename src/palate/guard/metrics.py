"""How well scores tell unsafe rows from safe ones, at every threshold.

A row is flagged where its score is at least the threshold, so rows with equal scores are flagged
together and none of these numbers depends on the order of the rows. Unsafe is the positive class:
recall is the share of unsafe rows that are flagged, the false-positive rate (FPR) the share of safe
ones.

Pure functions of numbers. Shape suffixes: N rows, T distinct scores, from the highest down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from palate.evaluate.intervals import Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

_ROUNDING = 1e-9  # of a share times a count: 0.07 * 100 is a hair more than 7
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Curve:
    """What is flagged at each distinct score: `hits_T` unsafe rows and `alarms_T` safe ones."""

    thresholds_T: Floats
    hits_T: Counts
    alarms_T: Counts
    unsafe: int
    safe: int

    @property
    def recall_T(self) -> Floats:
        """Share of the unsafe rows that are flagged."""
        return self.hits_T / self.unsafe

    @property
    def fpr_T(self) -> Floats:
        """Share of the safe rows that are flagged."""
        return self.alarms_T / self.safe

    @property
    def precision_T(self) -> Floats:
        """Share of the flagged rows that are unsafe."""
        return self.hits_T / (self.hits_T + self.alarms_T)


def curve(scores_N: Floats, unsafe_N: Bools) -> Curve:
    """The counts at every threshold.

    Raises `ValueError` where one class has no row, or a score is not finite.
    """
    unsafe = int(unsafe_N.sum())
    safe = len(unsafe_N) - unsafe
    if not unsafe or not safe:
        only = "safe" if not unsafe else "unsafe"
        raise ValueError(f"all {len(unsafe_N)} rows are {only}: there is nothing to tell apart")
    if not np.isfinite(scores_N).all():
        raise ValueError("a score is not a finite number")
    thresholds_T, at_N = np.unique(-scores_N, return_inverse=True)
    hits_T = np.cumsum(np.bincount(at_N, weights=unsafe_N)).astype(np.int64)
    alarms_T = np.cumsum(np.bincount(at_N, weights=~unsafe_N)).astype(np.int64)
    return Curve(-thresholds_T, hits_T, alarms_T, unsafe, safe)


def auc(found: Curve) -> float:
    """Area under the ROC curve: P(an unsafe row's score > a safe row's) + ½ P(equal).

    Mann and Whitney 1947; the trapezoids of the curve give just that, ties included.
    """
    rise_T = np.concatenate([[0], found.hits_T])
    run_T = np.diff(found.alarms_T, prepend=0)
    twice = int((run_T * (rise_T[1:] + rise_T[:-1])).sum())
    return twice / (2 * found.unsafe * found.safe)


def auc_interval(area: float, unsafe: int, safe: int, confidence: float = 0.95) -> Interval:
    """The interval of an area A, asymmetric and never empty, also at 0 and 1.

    Newcombe 2006, Statistics in Medicine 25:559-573, method 5: the bounds are the θ with
    |A − θ| = z sqrt(V(θ)), where, m and n being the numbers of rows and N = (m + n)/2,
    V(θ) = θ(1−θ)/(mn) · (1 + (N−1) ((1−θ)/(2−θ) + θ/(1+θ))).
    Rows count as independent; answers to one prompt are not quite.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = (unsafe + safe) / 2 - 1

    def beyond(theta: float) -> bool:
        spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + half * spread) / (unsafe * safe)
        return abs(area - theta) > z * math.sqrt(variance)

    low = _border(0.0, area, beyond) if area > 0 else 0.0
    high = _border(1.0, area, beyond) if area < 1 else 1.0
    return low, high


def _border(outside: float, inside: float, beyond: Callable[[float], bool]) -> float:
    """Where, between two numbers, `beyond` turns from true to false."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        if beyond(middle):
            outside = middle
        else:
            inside = middle
    return inside


def average_precision(found: Curve) -> float:
    """Σ (recall_t − recall_{t−1}) precision_t: the step-wise area under precision and recall."""
    gained_T = np.diff(found.hits_T, prepend=0)
    return float((gained_T * found.precision_T).sum()) / found.unsafe


def precision_at(found: Curve, recall: float) -> float:
    """Precision at the highest threshold whose recall is at least `recall`."""
    return float(found.precision_T[_at_recall(found, recall)])


def fpr_at(found: Curve, recall: float) -> float:
    """False-positive rate at the highest threshold whose recall is at least `recall`."""
    return float(found.fpr_T[_at_recall(found, recall)])


def threshold_for_recall(found: Curve, recall: float) -> float:
    """The highest threshold whose recall is at least `recall` in (0, 1].

    Midway to the next lower score, where there is one: rows to come are not just these.
    """
    return _midway(found, _at_recall(found, recall))


def threshold_for_fpr(found: Curve, fpr: float) -> float:
    """The lowest threshold whose false-positive rate is at most `fpr` in [0, 1).

    Midway to the next lower score. Just above the highest score, so that nothing is flagged,
    where the rows with that score alone would be too many safe ones.
    """
    allowed = math.floor(fpr * found.safe + _ROUNDING)
    at = int(np.searchsorted(found.alarms_T, allowed, side="right")) - 1
    if at < 0:
        return float(np.nextafter(found.thresholds_T[0], np.inf))
    return _midway(found, at)


def _at_recall(found: Curve, recall: float) -> int:
    wanted = max(1, math.ceil(recall * found.unsafe - _ROUNDING))
    return int(np.searchsorted(found.hits_T, wanted, side="left"))


def _midway(found: Curve, at: int) -> float:
    here = float(found.thresholds_T[at])
    if at + 1 == len(found.thresholds_T):
        return here
    middle = (here + float(found.thresholds_T[at + 1])) / 2
    # Between neighbours among the floats there is nothing, and the lower one would flag its rows.
    return middle if middle > found.thresholds_T[at + 1] else here
