"""CSV that a spreadsheet reads as text: no cell of somebody's words becomes a formula.

Spreadsheets compute a cell that begins with ``=``, ``+``, ``-`` or ``@``, and some skip a tab or a
line break to find one (OWASP, CSV injection). Such a cell gets an apostrophe before it, which
spreadsheets take to mean "text". Where a spreadsheet separates cells by semicolons or tabs, it
begins cells, and after a line break rows, in the middle of ours: there the same is done. Numbers
are written as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

Cell = str | int | float | None
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_INSIDE = re.compile(r"(?<=[;\t\r\n])(?=[=+\-@＝＋－＠])")
_AT_ONCE = 200  # rows of one piece


def neutral(cell: Cell) -> str:
    """The cell as text that no spreadsheet computes; empty for None."""
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return str(cell)
    cell = _INSIDE.sub("'", cell)
    return f"'{cell}" if cell.startswith(_STARTS) else cell


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Header and rows as one text, as RFC 4180 has it; every cell by `neutral`."""
    return "".join(csv_pieces(header, rows))


def csv_pieces(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """The same, some rows at a time, to be sent while more is read."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(map(neutral, header))
    for number, row in enumerate(rows, 1):
        writer.writerow(map(neutral, row))
        if number % _AT_ONCE == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
