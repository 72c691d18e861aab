"""Does a bag of words decide who wins, beyond what length and form explain?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, listed, percent, worth
from palate.curate.lint.shares import mean_difference, share
from palate.curate.lint.view import View

CHECK = "words"
LEAST = 50  # contests: below, a model of words can learn nothing
# Some of every preference is in its words. From 0.6 on words alone win 3 % of the loss, from 0.75
# on 19 %, which is about what a pair teaches at all.
NOTE_ABOVE, WARNING_ABOVE = 0.6, 0.75
BEYOND_FORM = 0.02  # what is less is not worth a line


def check(view: View) -> Iterator[Number | Finding]:
    """The cross-validated accuracy of a bag-of-words model, and of length and form alone.

    Found if it is certainly above 0.6 and certainly above what length, surface features and
    openings reach on the same contests.
    """
    contests = view.contests
    if len(contests) < LEAST:
        return
    bag, form = view.bag, view.by_form
    number = share(CHECK, "a bag of words picks the winner", bag.predicted.hits_N, contests.groups)
    plain = share(CHECK, "length and form pick the winner", form.hits_N, contests.groups)
    beyond = beyond_form(view)
    yield number
    yield plain
    yield beyond
    if number.low <= NOTE_ABOVE or beyond.low <= 0 or beyond.value < BEYOND_FORM:
        return
    order = np.argsort(-bag.predicted.chance_N, kind="stable")
    told = ""
    if bag.better or bag.worse:
        told = f" For the winner speak {listed(bag.better) or 'no words'}; for the loser "
        told += f"{listed(bag.worse) or 'no words'}."
    yield Finding(
        CHECK,
        "warning" if number.low > WARNING_ABOVE else "note",
        number,
        f"The words alone, in any order, pick the winner in {number.said} of {number.of} contests "
        f"with prompts that were kept apart, length and form in {plain.said}; that is worth "
        f"{percent(worth(number.value))} of the loss.{told}",
        "If these words are the taste that you mean to teach, this is as it should be. If they are "
        "the mark of a template, a topic or one writer, drop or rewrite the answers that carry it.",
        view.ids(view.where(contests.winners[order[:SHOWN]])),
    )


def beyond_form(view: View) -> Number:
    """How much more often a bag of words is right than length, features and openings are."""
    gained_N = view.bag.predicted.hits_N - view.by_form.hits_N
    return mean_difference(
        CHECK, "what words add to length and form", gained_N, view.contests.groups
    )
