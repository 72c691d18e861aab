"""What the store holds: counts, where they come from, and when they came."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from palate.store.database import Store
from palate.store.reading import counts
from palate.store.schema import INTERACTION, REJECT, SOURCE
from palate.store.sources import Source, sources

_MOST_BARS = 62  # days, then months, then years
_LISTED = 200  # rejects of a page
_SPANS = (("day", 10), ("month", 7), ("year", 4))  # characters of an ISO time


class Overview:
    """Counts, sources with their rejects, and interactions over time.

    What takes longer than counting is kept until a count, or a source, is another.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: tuple[Any, dict[str, Any]] | None = None

    def facts(self) -> dict[str, Any]:
        """All of it; JSON-ready."""
        known, listed = counts(self._store), sources(self._store)
        kept = self._kept
        if kept is None or kept[0] != (known, listed):
            held, rejects = _of(self._store)
            told = [_told(one, held, rejects) for one in listed]
            kept = (known, listed), {"over_time": over_time(self._store), "sources": told}
            self._kept = kept
        return {"name": self._store.name, "counts": known, **kept[1]}


def over_time(store: Store) -> dict[str, Any]:
    """Interactions by day; by month or year where there would be too many bars.

    ``bars`` are ``{"when", "count"}`` without gaps between the first and the last, ``unit`` says
    what a bar is, ``untimed`` counts interactions without a time that can be read.
    """
    with store.reading() as connection:
        day = sa.func.substr(INTERACTION.c.time, 1, 10)
        found = connection.execute(
            sa.select(day, sa.func.count()).where(INTERACTION.c.erased.is_(None)).group_by(day)
        ).all()
    days = {when: number for when, number in found if when and _is_day(when)}
    untimed = sum(number for _, number in found) - sum(days.values())
    for unit, width in _SPANS:
        counted: dict[str, int] = defaultdict(int)
        for when, number in days.items():
            counted[when[:width]] += number
        whens = _filled(min(counted), max(counted), unit) if counted else []
        if len(whens) <= _MOST_BARS or unit == "year":
            bars = [{"when": when, "count": counted.get(when, 0)} for when in whens[-_MOST_BARS:]]
            return {"unit": unit, "bars": bars, "untimed": untimed}
    raise AssertionError


def rejected(store: Store, source: int, reason: str, page: int) -> dict[str, Any]:
    """The lines of a source that were refused under a reason; their text is not kept."""
    which = REJECT.c.source == source, REJECT.c.reason == reason
    with store.reading() as connection:
        name = connection.execute(sa.select(SOURCE.c.name).where(SOURCE.c.id == source)).scalar()
        total = connection.execute(sa.select(sa.func.count()).where(*which)).scalar_one()
        lines = connection.execute(
            sa.select(REJECT.c.line)
            .where(*which)
            .order_by(REJECT.c.line)
            .offset(page * _LISTED)
            .limit(_LISTED)
        ).scalars()
        listed = list(lines)
    more = (page + 1) * _LISTED < total
    found = {"name": name or "", "source": source, "reason": reason, "lines": listed}
    return {**found, "total": total, "page": page, "more": more}


def state_of(store: Store) -> dict[str, int]:
    """Numbers that change whenever something is added or erased."""
    known = counts(store)
    events = sum(number for name, number in known.items() if name not in _NOT_EVENTS)
    return {"interactions": known["interactions"], "erased": known["erased"], "events": events}


_NOT_EVENTS = {"interactions", "erased"}


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _filled(first: str, last: str, unit: str) -> list[str]:
    """Every day, month or year from the first to the last, at most a few more than are shown."""
    if unit == "year":
        return [f"{year:04d}" for year in range(int(first), int(last) + 1)]
    if unit == "month":
        begin, end = (int(m[:4]) * 12 + int(m[5:]) - 1 for m in (first, last))
        months = range(begin, min(end, begin + _MOST_BARS + 1) + 1)
        return [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in months]
    begun = date.fromisoformat(first)
    days = (date.fromisoformat(last) - begun).days
    return [str(begun + timedelta(days=n)) for n in range(min(days, _MOST_BARS + 1) + 1)]


def _of(store: Store) -> tuple[dict[int, int], dict[int, dict[str, int]]]:
    """Interactions by source, and rejects by source and reason."""
    with store.reading() as connection:
        held = connection.execute(
            sa.select(INTERACTION.c.source, sa.func.count())
            .where(INTERACTION.c.erased.is_(None))
            .group_by(INTERACTION.c.source)
        ).all()
        refused = connection.execute(
            sa.select(REJECT.c.source, REJECT.c.reason, sa.func.count())
            .group_by(REJECT.c.source, REJECT.c.reason)
            .order_by(sa.func.count().desc(), REJECT.c.reason)
        ).all()
    rejects: dict[int, dict[str, int]] = defaultdict(dict)
    for source, reason, number in refused:
        rejects[source][reason] = number
    return {row[0]: row[1] for row in held}, rejects


def _told(one: Source, held: dict[int, int], rejects: dict[int, dict[str, int]]) -> dict[str, Any]:
    summary = one.summary or {}
    return {
        "id": one.id,
        "name": one.name,
        "began": one.began,
        "completed": one.completed,
        "is_file": one.sha256 is not None,
        "rows": summary.get("rows"),
        "interactions": held.get(one.id, 0),
        "rejects": rejects.get(one.id, {}),
    }
