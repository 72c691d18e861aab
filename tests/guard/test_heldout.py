"""Figures are of rows that neither trained nor calibrated what judges them."""

from __future__ import annotations

import numpy as np
import pytest

from palate.guard.calibration import fit_calibration
from palate.guard.heldout import choose_folds, cross_fitted, judged_by, unsafe_rows
from palate.guard.metrics import curve
from palate.guard.settings import Goal
from palate.records import Completion, Example, Message

WORDS = (
    "tea",
    "rain",
    "map",
    "key",
    "moss",
    "wool",
    "salt",
    "corn",
    "lamp",
    "door",
    "brick",
    "sun",
)


def labelled(text: str, up: bool) -> Example:
    return Example((Message("user", text),), (Completion((), label=up),))


def many() -> list[Example]:
    """Twelve prompts without a word in common, every third unsafe."""
    return [labelled(f"{a} {a}{a} {a}x y{a}", n % 3 > 0) for n, a in enumerate(WORDS)]


def test_folds_hold_whole_prompts_and_both_classes() -> None:
    examples = [
        *many(),
        labelled("tea teatea teax ytea", False),
        labelled("lonely words here", True),
    ]
    unsafe = unsafe_rows(examples)
    assert unsafe.tolist() == [n % 3 == 0 for n in range(12)] + [True, False]
    folds = choose_folds(examples, 0)
    assert folds[0] == folds[12], "one prompt, one fold"
    assert set(folds.tolist()) == {0, 1, 2, 3}, "as many as there are unsafe prompts"
    for fold in range(4):
        assert unsafe[folds == fold].any()
        assert not unsafe[folds == fold].all()
    assert (choose_folds(examples, 0) == folds).all()


def test_each_row_is_judged_by_the_other_folds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(40)
    unsafe = rng.random(40) < 1 / (1 + np.exp(-2 * scores))
    folds = np.arange(40) % 2
    goal = Goal(recall=0.8)
    found = cross_fitted(scores, unsafe, folds, goal)
    for own, other in ((0, 1), (1, 0)):
        mine, theirs = folds == own, folds == other
        fitted = fit_calibration(scores[theirs], unsafe[theirs])
        threshold = goal.threshold(curve(scores[theirs], unsafe[theirs]))
        assert found.log_odds_N[mine] == pytest.approx(fitted.log_odds(scores[mine]))
        assert (found.flagged_N[mine] == (scores[mine] >= threshold)).all()
    inside = judged_by(scores, unsafe, fitted, threshold)
    assert (inside.flagged_N == (scores >= threshold)).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([True, True, True], "no unsafe prompt is held out"),
        ([False, True, True], "1 unsafe prompt is held out"),
        ([False, False, True], "1 safe prompt is held out"),
    ],
)
def test_too_few_prompts_are_said(labels: list[bool], said: str) -> None:
    examples = [labelled(f"{WORDS[n]} {n}", up) for n, up in enumerate(labels)]
    with pytest.raises(ValueError, match=said):
        choose_folds(examples, 0)
