"""Verdicts of judges as events: each judge's word on each thing once, whatever runs again.

An event's id is a hash of the judge's identity and of what it judged. So a judge that was stopped
goes on where it was, and another judge's word, or the same judge's after its settings changed,
stands beside the earlier one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from palate.records import Signal
from palate.store.adding import now
from palate.store.database import Store
from palate.store.rows import event_row, short_hash
from palate.store.schema import EVENT, INTERACTION
from palate.store.sources import open_source

_ASKED = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of an interaction, under the id of `judgement_id`."""

    id: str
    interaction: str
    signal: Signal


def judgement_id(judge: str, interaction: str, places: Sequence[int]) -> str:
    """The event's id: `judge` is the identity of the judge, `places` are the answers judged."""
    return short_hash("\x00".join(("judgement", judge, interaction, *map(str, places))))


def known_judgements(store: Store, ids: Collection[str]) -> set[str]:
    """Those of the ids that are in the store, erased ones included."""
    found: set[str] = set()
    listed = sorted(ids)
    with store.reading() as connection:
        for at in range(0, len(listed), _ASKED):
            query = sa.select(EVENT.c.id).where(EVENT.c.id.in_(listed[at : at + _ASKED]))
            found.update(connection.execute(query).scalars())
    return found


def add_judgements(store: Store, judgements: Sequence[Judgement], origin: str) -> int:
    """Add what is not there yet, on the disk when this returns; how many that were.

    Nothing is added to an interaction that was erased while it was judged.
    """
    if not judgements:
        return 0
    source, time = open_source(store, origin).id, now()
    known = known_judgements(store, [one.id for one in judgements])
    keys = {one.interaction for one in judgements}
    with store.writing() as connection:
        alive = sa.select(INTERACTION.c.id).where(
            INTERACTION.c.id.in_(sorted(keys)), INTERACTION.c.erased.is_(None)
        )
        there = set(connection.execute(alive).scalars())
        rows = []
        for one in judgements:
            kind, said, by, _, _ = event_row(one.signal)
            place = {"source": source, "line": 0, "hash": None, "time": time}
            if one.interaction in there and one.id not in known:
                body = {"interaction": one.interaction, "kind": kind, "said": said, "by_whom": by}
                rows.append({"id": one.id, **body, **place})
        if rows:
            connection.execute(store.upsert(EVENT), rows)
    return len(rows)
