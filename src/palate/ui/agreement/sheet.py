"""The votes as CSV, in which no cell can become a formula of a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from palate.ui.agreement.votes import Said, Votes

COLUMNS = (
    *("interaction", "answers", "annotator", "word", "better", "strength", "shown_first"),
    *("time", "comment", "settles"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would take it for a formula.

    Those that begin with = + - @, a tab or a carriage return (OWASP, CSV Injection).
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def sheet(votes: Votes) -> str:
    """One row a vote in the order of time, those that settle an item among them."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    every: Iterable[tuple[Said, bool]] = [
        *((one, False) for one in (*votes.pairs, *votes.singles)),
        *((one, True) for one in votes.settled.values()),
    ]
    for one, settles in sorted(every, key=lambda pair: (pair[0].time or "", pair[0].item)):
        writer.writerow([harmless(cell) for cell in _cells(one, settles)])
    return out.getvalue()


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
