"""What a source format is; each module of a format declares one as `FORMAT`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from palate.records import Example, Signal

Row = dict[str, Any]


def _none(_row: Row) -> str | None:
    return None


def _no_ids(_row: Row) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Format:
    """One source format.

    `sniff` says whether a row looks like it; `parse` turns a row into examples, and into signals
    about answers, or raises `RecordError`; `time` reads when the row was written, `ids` what names
    it there (see `Arrival`), `user` whose it is; `fields` are the names it looks for. A row that
    has ids gives one example at most: rows that share an id are one interaction.

    For the documents: `signals` says what the rows tell about answers, and `names` how ids look.
    """

    name: str
    description: str
    fields: tuple[str, ...]
    sniff: Callable[[Row], bool]
    parse: Callable[[Row], Sequence[Example | Signal]]
    time: Callable[[Row], str | None] = _none
    ids: Callable[[Row], tuple[str, ...]] = _no_ids
    user: Callable[[Row], str | None] = _none
    signals: str = "none"
    names: str = "none"
