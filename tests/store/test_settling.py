"""The last word on an item, in the store."""

from __future__ import annotations

import pytest
from tests.store.arrivals import chat

from palate.records import ADJUDICATED, Signal
from palate.store.database import Store
from palate.store.reading import find
from palate.store.settling import settle, settled_id, unsettle


def words(store: Store) -> list[tuple[str, int | None, str | None, str | None]]:
    return [(s.kind, s.choice, s.name, s.by) for s in find(store, "x:1").signals]


def test_an_item_has_one_last_word_that_can_be_taken_back(store: Store) -> None:
    store.add([chat("a?", "yes", "no", ids=("x:1",))], "log")
    key = find(store, "x:1").id
    settle(store, key, (0, 1), Signal(("x:9",), "vote", 1, over=0, by="owner"))
    assert words(store) == [("vote", 1, ADJUDICATED, "owner")]
    settle(store, key, (1, 0), Signal((), "tie", 0, over=1, by="owner"))
    assert words(store) == [("tie", 0, ADJUDICATED, "owner")]
    assert unsettle(store, key, (0, 1))
    assert words(store) == []
    assert not unsettle(store, key, (0, 1))
    settle(store, key, (0, 1), Signal((), "vote", 0, over=1, by="owner"))
    assert words(store) == [("vote", 0, ADJUDICATED, "owner")]


def test_what_is_gone_cannot_be_settled(store: Store) -> None:
    with pytest.raises(ValueError, match="is not in the store any more"):
        settle(store, "0" * 32, (0, 1), Signal((), "tie", 0, over=1, by="owner"))


def test_the_order_of_the_answers_makes_no_other_item() -> None:
    assert settled_id("a", (2, 0)) == settled_id("a", (0, 2)) != settled_id("a", (0, 1))
