"""Label noise as a model sees it that was fitted on other prompts: confident learning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, percent
from palate.curate.lint.shares import share
from palate.curate.lint.view import View
from palate.curate.lint.wording import beyond_form

CHECK = "label-noise"
LEAST = 200  # contests
# Where words decide less than this, what the model does not know looks like noise.
DECIDED = 0.75
ABOVE = 0.05  # of labels; less is what careful people disagree about anyway
SUREST = 3  # one contest in three


def check(view: View) -> Iterator[Number | Finding]:
    """The share of contests whose label a cross-validated model of words confidently contradicts.

    Confident learning (Northcutt et al. 2021, JAIR 70:1373): with p the model's probability of
    the given label and t the mean of p, a label with 1 − p ≥ t counts as wrong, one with p ≥ t as
    right, and the rest is not judged. For pairs both classes are one, by symmetry. The estimate
    is too high where words do not decide, so it is made only if the model is right in 75 % for
    certain, and more often than length and form: exceptions to a rule of form are no noise. It is
    too low for noise that follows the words.

    Where words decide only by and large, the model is wrong most where it is least sure; wrong
    labels contradict it just as often where it is sure. So a finding needs the third of the
    contests in which it is surest, too.
    """
    contests = view.contests
    if len(contests) < LEAST:
        return
    hits = share(CHECK, "", view.bag.predicted.hits_N, contests.groups)
    if hits.low <= DECIDED or beyond_form(view).low <= 0:
        return
    chance_N = view.bag.predicted.chance_N
    sure = float(chance_N.mean())
    wrong_N, right_N = 1 - chance_N >= sure, chance_N >= sure
    judged = np.flatnonzero(wrong_N | right_N)
    number = share(
        CHECK,
        "labels that a model of words confidently contradicts",
        wrong_N[judged].astype(np.float64),
        contests.groups[judged],
    )
    surest = np.argsort(-np.abs(chance_N - 0.5), kind="stable")[: len(contests) // SUREST]
    flat = share(
        CHECK,
        "labels against the model where it is surest",
        1 - view.bag.predicted.hits_N[surest],
        contests.groups[surest],
    )
    yield number
    yield flat
    if number.low <= ABOVE or flat.low <= ABOVE:
        return
    suspects = [int(at) for at in np.argsort(chance_N, kind="stable") if wrong_N[at]]
    yield Finding(
        CHECK,
        "warning",
        number,
        f"A model of words that was fitted on other prompts and is right in {percent(hits.value)} "
        f"contradicts {number.said} of the labels that it is sure about.",
        "Look at the examples named here, the most suspicious first, and turn or drop those that "
        "are wrong. If the rest is as noisy, train with method=robust-dpo and that share as "
        "method.epsilon.",
        view.ids(
            [
                example
                for at in suspects[:SHOWN]
                for example in view.where(np.array([contests.winners[at], contests.losers[at]]))
            ]
        ),
    )
