"""Leases: one item for one annotator, two where two are wanted, and an end to each."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from tests.store.arrivals import chat

from palate.store.database import Store
from palate.store.items import Item, across, settle_home
from palate.store.leasing import lease, leases_of, release
from palate.store.reading import find
from palate.store.schema import LEASE
from palate.store.voting import Word, keep, withdraw


@pytest.fixture
def items(store: Store) -> list[Item]:
    store.add([chat(f"{n}?", "x", "y", ids=(f"o:{n}",)) for n in range(12)], "log")
    return [Item(find(store, f"o:{n}").id, (0, 1)) for n in range(12)]


def once(items: list[Item]) -> list[tuple[Item, int]]:
    return [(item, 1) for item in items]


def vote(item: Item, annotator: str, **more: Any) -> Word:
    said = {"shown": item.places, "kind": "vote", "choice": 0, "over": 1} | more
    return Word(annotator, item.interaction, **said)


def test_each_gets_the_first_that_is_free(store: Store, items: list[Item]) -> None:
    assert lease(store, "ann", once(items), 10) == items[0]
    assert lease(store, "eve", once(items), 10) == items[1]
    assert lease(store, "ann", once(items[1:]), 10) == items[2]
    assert lease(store, "bob", once(items[:3]), 10) is None
    assert leases_of(store, "ann") == [items[0].key, items[2].key]
    release(store, "ann", [items[0].key])
    assert lease(store, "bob", once(items[:3]), 10) == items[0]


def test_an_item_for_two_is_given_to_two(store: Store, items: list[Item]) -> None:
    offered = [(items[0], 2), (items[1], 1)]
    given = [lease(store, who, offered, 10) for who in ("ann", "eve", "bob", "joe")]
    assert given == [items[0], items[0], items[1], None]


def test_a_word_counts_as_a_lease_does(store: Store, items: list[Item]) -> None:
    keep(store, vote(items[0], "ann"))
    assert lease(store, "eve", [(items[0], 1)], 10) is None
    assert lease(store, "eve", [(items[0], 2)], 10) == items[0]
    keep(store, vote(items[0], "eve"), items[0].key)
    assert lease(store, "bob", [(items[0], 2)], 10) is None
    assert lease(store, "ann", [(items[0], 2)], 10) == items[0], "one's own word is no obstacle"
    release(store, "ann", [items[0].key])
    withdraw(store, vote(items[0], "ann").id)
    assert lease(store, "bob", [(items[0], 2)], 10) == items[0]
    # Of other answers of the interaction, and a skip, nothing follows.
    keep(store, vote(items[1], "ann", shown=(0,), kind="thumb", label=True, over=None))
    keep(store, vote(items[1], "joe", kind="skip", choice=None, over=None))
    assert lease(store, "eve", [(items[1], 1)], 10) == items[1]


def test_answers_of_two_interactions(store: Store) -> None:
    store.add([chat("a?", text, ids=(f"o:{text}",)) for text in "xy"], "log")
    item = across(*(find(store, f"o:{text}").id for text in "xy"))
    assert lease(store, "ann", [(item, 1)], 10) == item
    keep(store, Word("ann", settle_home(store, item), (0, 1), "tie", choice=0, over=1), item.key)
    assert lease(store, "eve", [(item, 1)], 10) is None
    assert leases_of(store, "ann") == []


def test_a_lease_ends(store: Store, items: list[Item]) -> None:
    assert lease(store, "ann", once(items), -1) == items[0]
    assert leases_of(store, "ann") == []
    assert lease(store, "eve", once(items), 10) == items[0]
    with store.reading() as connection:
        left = connection.execute(sa.select(LEASE.c.annotator)).scalars().all()
    assert left == ["eve"], "and what is over is removed"


def test_twenty_annotators_at_once_get_different_items(store: Store, items: list[Item]) -> None:
    offered = [(item, 2 if place % 3 == 0 else 1) for place, item in enumerate(items)]
    room = sum(wanted for _, wanted in offered)
    assert room == 16  # 4 of the 12 are for two
    names = [f"annotator {n}" for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        given = list(pool.map(lambda who: lease(store, who, offered, 10), names))
    counted = Counter(item.key for item in given if item is not None)
    assert counted == {item.key: wanted for item, wanted in offered}
    assert given.count(None) == 4
