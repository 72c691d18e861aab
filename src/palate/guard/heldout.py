"""Figures on the rows that calibrate: each row judged by a calibration that never saw it.

The rows are divided into folds; probabilities and flags of each fold come from the calibration
and the threshold fitted on the others, so that all rows serve both purposes and none flatters
itself. What ships is fitted on all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palate.curate.near_duplicates import prompt_groups
from palate.guard.calibration import Calibration, fit_calibration
from palate.guard.metrics import Bools, Floats, curve
from palate.guard.settings import Goal
from palate.records import Example, digest

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores, calibrated log-odds, flags and labels of N rows."""

    scores_N: Floats
    log_odds_N: Floats
    flagged_N: Bools
    unsafe_N: Bools


def unsafe_rows(examples: Sequence[Example]) -> Bools:
    """True for a thumb down; every example has a thumb."""
    return np.array([example.completions[0].label is False for example in examples], dtype=bool)


def choose_folds(examples: Sequence[Example], seed: int) -> NDArray[np.int64]:
    """The fold of each row: prompts that are near-duplicates share one, classes are spread.

    Raises `ValueError` with fewer than two prompts of either class.
    """
    unsafe_N = unsafe_rows(examples)
    groups = prompt_groups(examples)
    classes: dict[str, set[bool]] = defaultdict(set)
    for group, unsafe in zip(groups, unsafe_N.tolist(), strict=True):
        classes[group].add(unsafe)
    having = {word: sum(kind in found for found in classes.values()) for word, kind in _CLASSES}
    for word, count in having.items():
        if count < 2:
            raise ValueError(
                f"{count or 'no'} {word} prompt is held out, near-duplicates counted once, and a "
                "guard is calibrated on at least two of each class: raise data.heldout or add rows"
            )
    order = sorted(classes, key=lambda group: (True in classes[group], digest([seed, group])))
    folds = min(FOLDS, *having.values())
    fold = {group: number % folds for number, group in enumerate(order)}
    return np.array([fold[group] for group in groups])


_CLASSES = (("safe", False), ("unsafe", True))


def cross_fitted(
    scores_N: Floats, unsafe_N: Bools, fold_N: NDArray[np.int64], goal: Goal
) -> Judged:
    """Each fold judged by the other folds' calibration and threshold; raises as they do."""
    log_odds_N, flagged_N = np.empty(len(scores_N)), np.empty(len(scores_N), dtype=bool)
    for fold in np.unique(fold_N):
        own_N = fold_N == fold
        fitted = fit_calibration(scores_N[~own_N], unsafe_N[~own_N])
        threshold = goal.threshold(curve(scores_N[~own_N], unsafe_N[~own_N]))
        log_odds_N[own_N] = fitted.log_odds(scores_N[own_N])
        flagged_N[own_N] = scores_N[own_N] >= threshold
    return Judged(scores_N, log_odds_N, flagged_N, unsafe_N)


def judged_by(
    scores_N: Floats, unsafe_N: Bools, calibration: Calibration, threshold: float
) -> Judged:
    """Rows judged by a calibration that was fitted elsewhere."""
    return Judged(scores_N, calibration.log_odds(scores_N), scores_N >= threshold, unsafe_N)
