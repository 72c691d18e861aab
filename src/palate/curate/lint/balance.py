"""Of thumbs, how many point up?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number
from palate.curate.lint.shares import share
from palate.curate.lint.view import View

CHECK = "thumbs"
# Up to ten to one the weights of kto make up for it (Ethayarajh et al. 2024, arXiv 2402.01306,
# keep DPO's quality with 90 % fewer answers of one kind); beyond, the rarer kind is too few.
RARE = 0.1


def check(view: View) -> Iterator[Number | Finding]:
    """The share of thumbs that point up."""
    judged = [answer for answer in view.answers if answer.rank]
    if view.shape != "labelled" or not judged:
        return
    ups = np.array([answer.rank > 0 for answer in judged], np.float64)
    groups = view.clusters[np.array([answer.example for answer in judged])]
    number = share(CHECK, "thumbs that point up", ups, groups)
    yield number
    if number.high >= RARE and number.low <= 1 - RARE:
        return
    rare, often = ("up", "down") if number.value < 0.5 else ("down", "up")
    side = 1 if rare == "up" else -1
    few = [answer.example for answer in judged if answer.rank == side]
    yield Finding(
        CHECK,
        "warning",
        number,
        f"Thumbs point up in {number.said} of {number.of} answers: the model is told almost only "
        f"what is {'bad' if rare == 'up' else 'good'}, and \u201calways {often}\u201d is nearly "
        "right.",
        f"Collect more answers with a thumb {rare}, or drop some of the others until they are at "
        "most ten to one; method=kto sets its weights from the counts.",
        view.ids(few[:SHOWN]),
    )
