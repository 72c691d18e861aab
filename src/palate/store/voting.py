"""What annotators say on the pages, as events: one for each word, which they may change.

An event's id is a hash of the annotator, the answers and the round (a second round asks the same
again). So another vote takes the place of the earlier one, undoing leaves a tombstone that a later
vote fills again, and a vote that was sent twice is one. Everything is on the disk when a function
returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from palate.records import Message, Signal
from palate.store.database import Store
from palate.store.items import SOURCE
from palate.store.rows import event_row, short_hash
from palate.store.schema import ASIDES, EVENT, LEASE
from palate.store.schema import SOURCE as SOURCES
from palate.store.sources import open_source
from palate.store.wording import empty_events, replace_events

WordKind = Literal["vote", "tie", "thumb", "skip", "flag"]

ROUNDS = (0, 1)
"""An annotator is asked once, and of some items once more, with the sides swapped."""
CLEARLY, SLIGHTLY = 1.0, 0.75
"""`Signal.strength` of the two steps of a scale. A judge's is P(the better one is better), and that
of several people the share that said so, both in (½, 1]; where the words of one person are averaged
with theirs they stand on the same scale: certain, and half way to even."""


@dataclass(frozen=True, slots=True)
class Word:
    """What an annotator says of one or two answers of an interaction.

    `shown` are their places in the order of the page. ``vote``: `choice` over `over` by
    `strength`, or `choice` None: both are bad; ``tie``: `choice` is as good as `over`; ``thumb``:
    `label` of `choice`; ``skip`` and ``flag`` say nothing of the answers. `edit` is the answer
    `choice` as it should have been. `time` is when it was said, ISO 8601 in UTC.
    """

    annotator: str
    interaction: str
    shown: tuple[int, ...]
    kind: WordKind
    choice: int | None = None
    over: int | None = None
    strength: float | None = None
    label: bool | None = None
    comment: str | None = None
    edit: str | None = None
    round: int = 0
    time: str | None = None

    @property
    def id(self) -> str:
        """The event's id."""
        return word_id(self.annotator, self.interaction, self.shown, self.round)


def word_id(annotator: str, interaction: str, places: Sequence[int], turn: int = 0) -> str:
    """The id of an annotator's word on these answers in this round, in whatever order shown."""
    parts = ("word", annotator, interaction, *map(str, sorted(places)), f"round {turn}")
    return short_hash("\x00".join(parts))


def edit_id(word: str) -> str:
    """The id of the edit that goes with a word."""
    return short_hash(f"edit\x00{word}")


def keep(store: Store, word: Word, item: str | None = None) -> None:
    """Write the word, and end the annotator's lease of `item`; on the disk when this returns.

    An edit that was made with an earlier word stays beside a new vote without one, and goes with
    a skip or a flag. Raises `ValueError` if the interaction is not there (any more).
    """
    source, time = open_source(store, SOURCE).id, _now()
    rows = [_row(word, word.id, source, time)]
    if word.edit is not None:
        rows.append(_row(word, edit_id(word.id), source, time, edited=True))
    with store.writing() as connection:
        gone = "this conversation was deleted meanwhile: go on with the next one"
        replace_events(store, connection, rows, gone)
        if word.kind in ASIDES:
            empty_events(connection, [edit_id(word.id)], _now())
        if item is not None:
            mine = LEASE.c.item == item, LEASE.c.annotator == word.annotator
            connection.execute(sa.delete(LEASE).where(*mine))


def withdraw(store: Store, word: str) -> bool:
    """Take a word back, its edit too; whether there was one.

    The tombstone keeps no hash: nothing was deleted, so no snapshot has to be cleaned of it.
    """
    with store.writing() as connection:
        return empty_events(connection, [word, edit_id(word)], _now()) > 0


def words(store: Store) -> list[Word]:
    """What all annotators said on the pages, in the order of time; edits stand with their words."""
    return _words(store, SOURCES.c.name == SOURCE)


def words_of(store: Store, annotator: str, limit: int) -> list[Word]:
    """The last words of an annotator, the latest first."""
    query = (
        sa.select(EVENT)
        .where(EVENT.c.by_whom == annotator, EVENT.c.erased.is_(None), EVENT.c.kind != "edit")
        .order_by(EVENT.c.time.desc(), EVENT.c.id)
    )
    found: list[Word] = []
    with store.reading() as connection:
        for row in connection.execute(query.execution_options(yield_per=64)):
            word = _word(row)
            if word is not None:
                found.append(word)
            if len(found) == limit:
                break
        edits = _edits(connection, [edit_id(word.id) for word in found])
    return list(_with_edits(found, edits))


def word(store: Store, key: str) -> Word | None:
    """The word of that id, if there is one and it was not taken back."""
    with store.reading() as connection:
        query = sa.select(EVENT).where(EVENT.c.id == key, EVENT.c.erased.is_(None))
        row = connection.execute(query).first()
        edits = _edits(connection, [edit_id(key)])
    found = None if row is None else _word(row)
    return None if found is None else next(_with_edits([found], edits))


def _words(store: Store, *conditions: sa.ColumnElement[bool]) -> list[Word]:
    query = (
        sa.select(EVENT)
        .join(SOURCES, SOURCES.c.id == EVENT.c.source)
        .where(*conditions, EVENT.c.erased.is_(None), EVENT.c.by_whom.is_not(None))
        .order_by(EVENT.c.time, EVENT.c.id)
    )
    found, edits = [], {}
    with store.reading() as connection:
        for row in connection.execute(query):
            if row.kind == "edit":
                edits[row.id] = _edited(row.said)
            elif (read := _word(row)) is not None:
                found.append(read)
    return list(_with_edits(found, edits))


def _word(row: Any) -> Word | None:
    """The event as a word; None of one that was not said on a page."""
    said = orjson.loads(row.said)
    shown = tuple(said.get("shown", ()))
    if not shown or row.interaction is None:
        return None
    names = ("choice", "over", "strength", "label", "comment")
    rest = {name: said.get(name) for name in names}
    for turn in ROUNDS:
        one = Word(row.by_whom, row.interaction, shown, row.kind, **rest, round=turn, time=row.time)
        if one.id == row.id:
            return one
    return None


def _edits(connection: sa.Connection, keys: Sequence[str]) -> dict[str, str]:
    query = sa.select(EVENT.c.id, EVENT.c.said).where(
        EVENT.c.id.in_(keys), EVENT.c.erased.is_(None)
    )
    return {key: _edited(said) for key, said in connection.execute(query)}


def _edited(said: str) -> str:
    return "\n\n".join(turn["content"] for turn in orjson.loads(said)["edit"])


def _with_edits(found: Sequence[Word], edits: dict[str, str]) -> Iterator[Word]:
    for one in found:
        text = edits.get(edit_id(one.id))
        yield one if text is None else replace(one, edit=text)


def _row(word: Word, key: str, source: int, time: str, *, edited: bool = False) -> dict[str, Any]:
    said = _edit(word) if edited else _said(word)
    place = {"interaction": word.interaction, "by_whom": word.annotator, "time": time}
    # The hash finds the word in snapshots; it is that of the words, not of the event.
    seal = {"source": source, "line": 0, "hash": short_hash(f"{key} {said}"), "erased": None}
    return {"id": key, "kind": "edit" if edited else word.kind, "said": said, **place, **seal}


def _said(word: Word) -> str:
    if word.kind in ASIDES:
        said = {"kind": word.kind, "by": word.annotator, "shown": list(word.shown)}
        return orjson.dumps(said | ({"comment": word.comment} if word.comment else {})).decode()
    signal = Signal(
        (),
        word.kind,  # type: ignore[arg-type]  # the others have returned
        word.choice,
        label=word.label,
        over=word.over,
        strength=word.strength,
        by=word.annotator,
        comment=word.comment,
        shown=word.shown,
    )
    return event_row(signal)[1]


def _edit(word: Word) -> str:
    assert word.edit is not None
    turn = Message("assistant", word.edit)
    return event_row(Signal((), "edit", word.choice, edit=(turn,), by=word.annotator))[1]


def _now() -> str:
    """The time to the millisecond: the order of an annotator's words."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
