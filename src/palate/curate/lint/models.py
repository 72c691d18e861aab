"""Models fitted on the spot, each asked only about prompts that it was not fitted on.

Shape suffixes: N contests, K columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.curate.lint.features import Form
from palate.curate.lint.shares import Floats, Ints, sigmoid
from palate.curate.lint.view import FOLDS, View

# Inverse strength of the ridge penalty. Rows are differences of vectors of unit length.
_C = 1.0
_MOST_WORDS = 20_000
_LEAST_ANSWERS = 5  # a word must stand in so many answers


@dataclass(frozen=True, slots=True)
class Predicted:
    """A model's opinion of each contest, from the folds in which the contest is not.

    `chance_N` is its probability that the winner wins, `hits_N` 1 where that is above one half,
    and one half where it cannot say.
    """

    chance_N: Floats

    @property
    def hits_N(self) -> Floats:
        """1 for right, 0 for wrong, one half for no opinion."""
        return np.where(np.abs(self.chance_N - 0.5) < 1e-9, 0.5, (self.chance_N > 0.5) * 1.0)


@dataclass(frozen=True, slots=True)
class Bag:
    """A bag-of-words model: its predictions, and the words that tell most for either side."""

    predicted: Predicted
    better: tuple[str, ...]
    worse: tuple[str, ...]


def fit_form(form: Form, folds_N: Ints) -> Predicted:
    """Logistic regression on length, surface features and openings alone."""
    return Predicted(_crossed(form.whole, folds_N)[0])


def fit_bag(view: View) -> Bag:
    """Logistic regression on differences of tf-idf vectors, winner minus loser.

    Vectors have unit length and grow with the log of a count, so that a long answer is not more
    of everything. Words that stand in fewer than five answers are left out.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from palate.curate.lint.text import words

    contests = view.contests
    sides = [
        [view.answers[int(at)].text for at in side] for side in (contests.winners, contests.losers)
    ]
    vectorizer = TfidfVectorizer(
        analyzer=words, sublinear_tf=True, min_df=_LEAST_ANSWERS, max_features=_MOST_WORDS
    )
    try:
        vectors = vectorizer.fit_transform(sides[0] + sides[1])
    except ValueError:  # no word is common enough
        return Bag(Predicted(np.full(len(contests), 0.5)), (), ())
    count = len(contests)
    differences = vectors[:count] - vectors[count:]
    chance_N, weights_FK = _crossed(differences, contests.folds)
    names = vectorizer.get_feature_names_out()
    better, worse = _telling(weights_FK, differences, names)
    return Bag(Predicted(chance_N), better, worse)


def _crossed(rows_NK: Any, folds_N: Ints) -> tuple[Floats, Floats]:
    """(chance that the winner wins, by the model of the other folds; each fold's weights).

    Every second row is turned round. Without an intercept a row and its reverse say the same, so
    this is the fit to both orientations.
    """
    from sklearn.linear_model import LogisticRegression

    turn_N = np.where(np.arange(rows_NK.shape[0]) % 2, -1.0, 1.0)
    chance_N = np.full(rows_NK.shape[0], 0.5)
    weights = []
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds_N != fold), np.flatnonzero(folds_N == fold)
        turned = turn_N[inside]
        if len(set(turned.tolist())) < 2 or not len(outside):
            continue
        scaled = _scale_rows(rows_NK[inside], turned)
        model = LogisticRegression(C=_C, fit_intercept=False, max_iter=1000, tol=1e-6)
        model.fit(scaled, turned > 0)
        weights.append(model.coef_[0])
        chance_N[outside] = sigmoid(np.asarray(rows_NK[outside] @ model.coef_[0]).ravel())
    width = rows_NK.shape[1]
    return chance_N, np.array(weights, dtype=np.float64).reshape(len(weights), width)


def _scale_rows(rows: Any, by_N: Floats) -> Any:
    from scipy.sparse import diags_array, issparse

    return diags_array(by_N) @ rows if issparse(rows) else rows * by_N[:, None]


def _telling(
    weights_FK: Floats, differences: Any, names: Sequence[str], most: int = 8
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that move the decision most, towards better and towards worse.

    By weight times spread, and only those whose weight has one sign in all folds.
    """
    if not len(weights_FK):
        return (), ()
    steady_K = np.abs(np.sign(weights_FK).sum(axis=0)) == len(weights_FK)
    spread_K = np.sqrt(np.asarray(differences.multiply(differences).mean(axis=0)).ravel())
    impact_K = weights_FK.mean(axis=0) * spread_K * steady_K
    order = np.argsort(impact_K, kind="stable")
    worse = tuple(str(names[at]) for at in order[:most] if impact_K[at] < 0)
    better = tuple(str(names[at]) for at in order[::-1][:most] if impact_K[at] > 0)
    return better, worse
