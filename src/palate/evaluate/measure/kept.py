"""Rows that cost a model's time, kept on the disk: asked for again, they are there.

The cache is shared by all runs, so that a base is asked once for all that are compared with it. A
file is named by the hash of all that decides its rows, and grows group by group: a measurement
that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from palate.machine import cache_root
from palate.records import digest
from palate.resumable import Busy, Damaged, Row, RowLog

T = TypeVar("T")
VERSION = 1
"""Raised when our own code comes to answer, render or score otherwise: old rows are not read."""
_LOOK_AGAIN = 1.0  # seconds between two looks at a file that another process is filling


def kept_rows(
    kind: str,
    settings: Row,
    items: Sequence[T],
    size: int,
    work: Callable[[Sequence[T], int], list[Row]],
    advance: Callable[[int], None] = lambda count: None,
    again: Callable[[Row], bool] = lambda row: False,
) -> list[Row]:
    """A row for each item, in order: `work(items, number)` makes those of group `number`.

    Groups have `size` items; `settings` must tell the items apart too. `advance` is told how many
    rows were there already; of the others `work` tells itself. Kept rows for which `again` holds,
    such as failures, are made anew. A file that another process fills is waited for, and a
    damaged one is begun anew.
    """
    groups = [items[at : at + size] for at in range(0, len(items), size)]
    about = {"kind": kind, "version": VERSION, "group": size, **settings}
    path = cache_root() / "measured" / f"{kind}-{digest(about)[:24]}.jsonl"
    with _opened(path, about, [len(group) for group in groups]) as log:
        _make_anew(log, items, size, work, again)
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done > len(log.rows):
                rows = work(group, number)
                assert len(rows) == len(group)
                log.append(rows)
        return log.rows


def _opened(path: Path, about: Row, sizes: Sequence[int]) -> RowLog:
    while True:
        try:
            return RowLog(path, about, sizes)
        except Busy:
            time.sleep(_LOOK_AGAIN)
        except Damaged:
            path.unlink()


def _make_anew(
    log: RowLog,
    items: Sequence[T],
    size: int,
    work: Callable[[Sequence[T], int], list[Row]],
    again: Callable[[Row], bool],
) -> None:
    bad = [place for place, row in enumerate(log.rows) if again(row)]
    if not bad:
        return
    rows = list(log.rows)
    for at in range(0, len(bad), size):
        part = bad[at : at + size]
        for place, row in zip(part, work([items[p] for p in part], at // size), strict=True):
            rows[place] = row
    log.replace(rows)
