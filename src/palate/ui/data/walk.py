"""Search: from the newest interaction to the oldest, a stretch at a time, until time is up.

Every page is answered quickly, however rare what is looked for: a walk that has not found enough
when its time is over says how far it came, and the next page goes on from there. Each stretch is a
range of the index `interaction_recent`, so no query of the database is longer than a stretch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from palate.records import JUDGE
from palate.store.database import Store
from palate.store.schema import ASIDES, EVENT, INTERACTION
from palate.ui.data.asked import Asked, cursor_of, holds

_FIRST, _MOST = 256, 4_096  # rows of a stretch: it doubles until it is as long as that
_COLUMNS = tuple(INTERACTION.c[name] for name in ("id", "time", "source", "user_id", "body"))


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk found, newest first, and how far it came.

    `rows` have id, time, source, user_id and body. `before` is where the next page begins, empty at
    the end. `looked` is how many interactions were looked at, `reached` the time of the last of
    them. `ended` says that time was up before the page was full.
    """

    rows: tuple[Any, ...]
    before: str
    looked: int
    reached: str | None
    ended: bool


@dataclass(frozen=True, slots=True)
class _Stretch:
    """`rows` are those that the database admits of `size`; `edge` is the last, None at the end."""

    rows: list[Any]
    size: int
    edge: Any


def walk(store: Store, asked: Asked, most: int, seconds: float) -> Walked:
    """At most `most` rows, looked for at most so many seconds, but for one stretch at least."""
    deadline = time.monotonic() + seconds
    found: list[Any] = []
    looked = 0
    with store.reading() as connection:
        for stretch in _stretches(connection, _Order(store), asked):
            for row in stretch.rows:
                if not holds(asked, row.body):
                    continue
                if len(found) == most:  # one more shows that there is a next page
                    last = found[-1]
                    before = cursor_of(last.time, last.id)
                    return Walked(tuple(found), before, looked, last.time, ended=False)
                found.append(row)
            looked += stretch.size
            edge = stretch.edge
            if edge is not None and time.monotonic() > deadline:
                before = cursor_of(edge.time, edge.id)
                return Walked(tuple(found), before, looked, edge.time, ended=True)
    return Walked(tuple(found), "", looked, None, ended=False)


class _Order:
    """The order of the search: by time, then by id, the latest first; without a time last."""

    def __init__(self, store: Store) -> None:
        self.is_sqlite = store.is_sqlite
        self.time: Any = INTERACTION.c.time
        self.id: Any = INTERACTION.c.id
        if not store.is_sqlite:  # PostgreSQL sorts by the language of the database
            self.time, self.id = self.time.collate("C"), self.id.collate("C")

    def by(self, *, timed: bool) -> list[Any]:
        return [self.time.desc(), self.id.desc()] if timed else [self.id.desc()]

    def older(self, place: tuple[str | None, str], *, timed: bool) -> Any:
        """Strictly after the place, in this order."""
        if timed:
            return sa.tuple_(self.time, self.id) < sa.tuple_(*map(sa.literal, place))
        return self.id < place[1]

    def upto(self, place: tuple[str | None, str], *, timed: bool) -> Any:
        """Not after the place."""
        if timed:
            return sa.tuple_(self.time, self.id) >= sa.tuple_(*map(sa.literal, place))
        return self.id >= place[1]


def _stretches(connection: sa.Connection, order: _Order, asked: Asked) -> Iterator[_Stretch]:
    """The stretches from where an earlier page ended: with a time first, then those without."""
    conditions = _conditions(asked, order.is_sqlite)
    size, start = _FIRST, asked.cursor
    for timed in (True, False):
        if (timed and start is not None and start[0] is None) or (not timed and _dated(asked)):
            continue
        place = start if start is not None and (start[0] is not None) == timed else None
        span = _span(asked, order, timed=timed)
        while True:
            after = [*span, *([order.older(place, timed=timed)] if place else [])]
            by = order.by(timed=timed)
            edges = sa.select(INTERACTION.c.time, INTERACTION.c.id).where(*after).order_by(*by)
            edge = connection.execute(edges.offset(size - 1).limit(1)).first()
            count = size
            if edge is None:
                whole = sa.select(sa.func.count()).select_from(INTERACTION).where(*after)
                count = connection.execute(whole).scalar_one()
            else:
                place = (edge.time, edge.id)
                after = [*after, order.upto(place, timed=timed)]
            rows = sa.select(*_COLUMNS).where(*after, *conditions).order_by(*by)
            yield _Stretch(list(connection.execute(rows).all()), count, edge)
            if edge is None:
                break
            size = min(2 * size, _MOST)


def _dated(asked: Asked) -> bool:
    return bool(asked.begin or asked.end)


def _span(asked: Asked, order: _Order, *, timed: bool) -> list[Any]:
    known = INTERACTION.c.time.is_not(None) if timed else INTERACTION.c.time.is_(None)
    span = [INTERACTION.c.erased.is_(None), known]
    span += [order.time >= asked.begin] if asked.begin else []
    return span + ([order.time < asked.upto] if asked.end else [])


def _conditions(asked: Asked, is_sqlite: bool) -> list[Any]:
    """What the database can tell; `holds` looks again at what stands in the JSON."""
    body = INTERACTION.c.body
    found: list[Any] = []
    if asked.words:
        found.append(_says(body, _inside(asked.words), is_sqlite))
    if asked.model:
        found.append(body.contains(f'"source":"{_inside(asked.model)}"', autoescape=True))
    if asked.tag:
        name, equals, value = asked.tag.partition("=")
        end = f'"{_inside(value)}"' if equals else ""
        found.append(body.contains(f'"{_inside(name)}":{end}', autoescape=True))
    if asked.source:
        found.append(INTERACTION.c.source == int(asked.source))
    if asked.thumb:
        label = f'"label":{"true" if asked.thumb == "up" else "false"}'
        found.append(_event("thumb", EVENT.c.said.contains(label, autoescape=True), _by_people()))
    if asked.event:
        found.append(_event(asked.event))
    if asked.state == "pair":
        winner = EVENT.c.said.contains('"choice":', autoescape=True)
        found.append(sa.or_(_event("edit"), _event("vote", winner)))
    elif asked.state:
        found.append(_event(None) if asked.state == "judged" else ~_event(None))
    return found


def _event(kind: str | None, *more: Any) -> Any:
    same = EVENT.c.interaction == INTERACTION.c.id
    kinds = [EVENT.c.kind == kind] if kind else [EVENT.c.kind.not_in(ASIDES)]
    return sa.exists().where(same, EVENT.c.erased.is_(None), *kinds, *more)


def _by_people() -> Any:
    return sa.or_(EVENT.c.by_whom.is_(None), ~EVENT.c.by_whom.startswith(JUDGE, autoescape=True))


def _says(body: Any, inside: str, is_sqlite: bool) -> Any:
    """Whether the text is there in any letter case; SQLite's own LIKE knows that of English."""
    if is_sqlite and inside.isascii():
        return body.like(f"%{_escaped(inside)}%", escape="\\")
    return body.icontains(inside, autoescape=True)


def _escaped(text: str) -> str:
    for letter in "\\%_":
        text = text.replace(letter, f"\\{letter}")
    return text


def _inside(text: str) -> str:
    """The text as it stands between quotes in JSON."""
    return orjson.dumps(text).decode()[1:-1]
