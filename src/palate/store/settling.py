"""The last word on an item that people disagree about: an event of whoever settles it.

It is apart from that person's own vote, and counts instead of all others (`curate.signals`). An
item has one; another takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from palate.records import ADJUDICATED, Signal
from palate.store.adding import now
from palate.store.database import Store
from palate.store.rows import event_row, short_hash
from palate.store.schema import EVENT, INTERACTION
from palate.store.sources import open_source

SOURCE = "palate ui"


def settled_id(interaction: str, places: Sequence[int]) -> str:
    """The event's id: `places` are the answers that the item consists of, in any order."""
    return short_hash("\x00".join(("settled", interaction, *map(str, sorted(places)))))


def settle(store: Store, interaction: str, places: Sequence[int], word: Signal) -> None:
    """Write the last word on these answers; on the disk when this returns.

    Raises `ValueError` if the interaction is not there (any more).
    """
    signal = replace(word, name=ADJUDICATED, about=(), provenance=())
    kind, said, by, _, _ = event_row(signal)
    key, source = settled_id(interaction, places), open_source(store, SOURCE).id
    row: dict[str, Any] = {"id": key, "interaction": interaction, "kind": kind, "said": said}
    row |= {"by_whom": by, "time": now(), "source": source, "line": 0, "erased": None}
    row["hash"] = short_hash(f"{key} {said}")  # of the words: it finds them in snapshots
    with store.writing() as connection:
        there = sa.select(INTERACTION.c.id).where(
            INTERACTION.c.id == interaction, INTERACTION.c.erased.is_(None)
        )
        if connection.execute(there).first() is None:
            raise ValueError("this conversation is not in the store any more: reload the page")
        again = sa.update(EVENT).where(EVENT.c.id == key).values(**row)
        if not connection.execute(again).rowcount:
            connection.execute(sa.insert(EVENT).values(**row))


def unsettle(store: Store, interaction: str, places: Sequence[int]) -> bool:
    """Take the last word back; whether there was one. A tombstone stays, without words."""
    mine = EVENT.c.id == settled_id(interaction, places), EVENT.c.erased.is_(None)
    emptied = {"said": None, "by_whom": None, "hash": None, "erased": now()}
    with store.writing() as connection:
        return connection.execute(sa.update(EVENT).where(*mine).values(**emptied)).rowcount > 0
