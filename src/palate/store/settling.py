"""The last word on an item that people disagree about: an event of whoever settles it.

It is apart from that person's own vote, and counts instead of all others (`curate.signals`). An
item has one; another takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from palate.records import ADJUDICATED, Signal
from palate.store.adding import now
from palate.store.database import Store
from palate.store.items import SOURCE
from palate.store.rows import event_row, short_hash
from palate.store.sources import open_source
from palate.store.wording import empty_events, replace_events


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
        gone = "this conversation is not in the store any more: reload the page"
        replace_events(store, connection, [row], gone)


def unsettle(store: Store, interaction: str, places: Sequence[int]) -> bool:
    """Take the last word back; whether there was one. A tombstone stays, without words."""
    with store.writing() as connection:
        return empty_events(connection, [settled_id(interaction, places)], now()) > 0
