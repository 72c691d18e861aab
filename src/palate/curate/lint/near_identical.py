"""Are the two answers of a pair nearly the same?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.text import words
from palate.curate.lint.view import View

CHECK = "near-identical"
# Below one word in ten, nearly all tokens stand in both answers, and DPO can raise the margin by
# making both less likely (Pal et al. 2024, arXiv 2402.13228).
CHANGED = 0.1
# Answers of more words are matched without starting from the most frequent ones: with these, a pair
# of 10,000 words takes half a minute.
_LONG = 1000
ABOVE = 0.05


def check(view: View) -> Iterator[Number | Finding]:
    """The share of pairs in which at most one word in ten differs.

    By difflib's ratio of the two sequences of words.
    """
    contests = view.contests
    if view.shape != "pair" or not len(contests):
        return
    near = np.array(
        [
            _near(view.answers[int(winner)].text, view.answers[int(loser)].text)
            for winner, loser in zip(contests.winners, contests.losers, strict=True)
        ],
        np.float64,
    )
    number = share(CHECK, "pairs whose answers are nearly the same", near, contests.groups)
    yield number
    if number.low > ABOVE:
        yield Finding(
            CHECK,
            "note",
            number,
            f"In {number.said} of the pairs at most one word in ten differs between the two "
            "answers. With so little between them, training can make both less likely.",
            "Watch the chosen reward in the report; if it falls, train with method=dpo-nll, which "
            "holds the chosen answer up.",
            view.ids(view.where(contests.winners[np.flatnonzero(near)[:SHOWN]])),
        )


def _near(one: str, other: str) -> bool:
    left, right = words(one), words(other)
    total = len(left) + len(right)
    if not total:
        return one.strip() == other.strip()
    # Words without their order bound the ratio from above, and are counted faster.
    if abs(len(left) - len(right)) > CHANGED * total:
        return False
    if 2 * (Counter(left) & Counter(right)).total() < (1 - CHANGED) * total:
        return False
    matcher = SequenceMatcher(None, left, right, autojunk=len(right) > _LONG)
    return matcher.ratio() >= 1 - CHANGED
