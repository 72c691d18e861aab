"""Does it decide who wins that another model, or a person, wrote the answer?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.curate.lint.findings import SHOWN, Finding, Number, percent, shown_text, worth
from palate.curate.lint.shares import Floats, share
from palate.curate.lint.view import FOLDS, View

CHECK = "author"
LEAST = 30  # contests between two different, known writers
COVERED = 0.2  # of all contests
# A better model wins more often, and should. At 0.9 the writer alone is worth half of the loss.
ABOVE = 0.9


def check(view: View) -> Iterator[Number | Finding]:
    """How often the winner follows from who wrote the two answers.

    For each two writers (`Completion.source`), the one that won more often on the other folds is
    expected to win; contests between two who never met there count one half.
    """
    contests = view.contests
    sources = [str(answer.completion.source or "") for answer in view.answers]
    met = [
        at
        for at in range(len(contests))
        if sources[contests.winners[at]]
        and sources[contests.losers[at]]
        and sources[contests.winners[at]] != sources[contests.losers[at]]
    ]
    if len(met) < max(LEAST, COVERED * len(contests)):
        return
    duels = [(sources[contests.winners[at]], sources[contests.losers[at]]) for at in met]
    hits = _expected(duels, contests.folds[np.array(met)])
    number = share(CHECK, "the writer decides who wins", hits, contests.groups[np.array(met)])
    yield number
    if number.low <= ABOVE:
        return
    better, worse = max(sorted(set(duels)), key=duels.count)
    shown = [at for at, duel in zip(met, duels, strict=True) if duel == (better, worse)][:SHOWN]
    yield Finding(
        CHECK,
        "warning",
        number,
        f"Who wrote an answer decides {number.said} of {number.of} contests; "
        f"{shown_text(better)} over {shown_text(worse)} is the most frequent. Telling writers "
        f"apart is worth {percent(worth(number.value))} of the loss, so the model learns a style.",
        "Add pairs in which both answers have one writer (two samples of a model, ranked), or in "
        "which the weaker writer wins.",
        view.ids(view.where(contests.winners[np.array(shown)])),
    )


def _expected(duels: list[tuple[str, str]], folds: Floats) -> Floats:
    """1 where the winner was the one expected, one half where nothing was known."""
    kinds = sorted({tuple(sorted(duel)) for duel in duels})
    index = {kind: at for at, kind in enumerate(kinds)}
    kind_N = np.array([index[tuple(sorted(duel))] for duel in duels])
    first_N = np.array([1.0 if duel[0] < duel[1] else -1.0 for duel in duels])
    hits = np.full(len(duels), 0.5)
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        lead_K = np.bincount(kind_N[inside], weights=first_N[inside], minlength=len(kinds))
        hits[outside] = (np.sign(lead_K[kind_N[outside]]) * first_N[outside] + 1) / 2
    return hits
