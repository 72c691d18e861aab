"""Rows that cost a model's time, kept on the disk: asked for again, they are there.

The cache is shared by all runs, so that a base is asked once for all that are compared with it. A
file is named by the hash of all that decides its rows, and grows group by group: a measurement
that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from palate.machine import cache_root
from palate.records import digest
from palate.resumable import Row, RowLog

T = TypeVar("T")


def kept_rows(
    kind: str,
    settings: Row,
    items: Sequence[T],
    size: int,
    work: Callable[[int, Sequence[T]], list[Row]],
    advance: Callable[[int], None] = lambda count: None,
) -> list[Row]:
    """A row for each item, in order: `work(number, items)` makes those of a group of `size`.

    `settings` must tell the items apart too. `advance` is told how many rows were there already;
    of the others `work` tells itself. Raises `ValueError` where another process is at it.
    """
    groups = [items[at : at + size] for at in range(0, len(items), size)]
    about = {"kind": kind, "group": size, **settings}
    path = cache_root() / "measured" / f"{kind}-{digest(about)[:24]}.jsonl"
    with RowLog(path, about, [len(group) for group in groups]) as log:
        advance(len(log.rows))
        done = 0
        for number, group in enumerate(groups):
            done += len(group)
            if done > len(log.rows):
                rows = work(number, group)
                assert len(rows) == len(group)
                log.append(rows)
        return log.rows
