"""The votes as CSV, in which no cell can become a formula of a spreadsheet."""

from __future__ import annotations

from palate.ui.agreement.votes import Said, Votes
from palate.ui.csv_text import csv_text

COLUMNS = (
    *("interaction", "answers", "annotator", "word", "better", "strength", "shown_first"),
    *("time", "comment", "settles"),
)


def sheet(votes: Votes) -> str:
    """One row a vote in the order of time, those that settle an item among them."""
    every: list[tuple[Said, bool]] = [
        *((one, False) for one in (*votes.pairs, *votes.singles)),
        *((one, True) for one in votes.settled.values()),
    ]
    every = sorted(every, key=lambda pair: (pair[0].time or "", pair[0].item))
    return csv_text(COLUMNS, (_cells(one, settles) for one, settles in every))


def _cells(one: Said, settles: bool) -> list[str]:
    sides = dict(zip(("first", "second"), map(str, one.places), strict=False))
    return [
        one.interaction,
        " ".join(map(str, one.places)),
        one.vote.by,
        one.vote.word,
        sides.get(one.vote.word, ""),
        "" if one.strength is None else str(one.strength),
        sides.get(one.vote.shown or "", ""),
        one.time or "",
        one.comment or "",
        "yes" if settles else "",
    ]
