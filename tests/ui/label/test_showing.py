"""In which order answers are shown, and words as the page says them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.arrivals import chat

from palate.store.database import Store
from palate.store.items import Item
from palate.store.reading import find
from palate.store.voting import keep
from palate.ui.label.showing import BOTH_BAD, STEPS, order_of, said_of, word_from


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "palate.db")
    made.add([chat(f"{n}?", "x", "y", ids=(f"o:{n}",)) for n in range(12)], "log")
    return made


def test_the_second_time_the_sides_are_swapped(store: Store) -> None:
    orders = set()
    for n in range(12):
        item = Item(find(store, f"o:{n}").id, (0, 1))
        first = order_of(store, item, "ann", 0)
        orders.add(first)
        assert order_of(store, item, "ann", 1) == first[::-1], "before any word"
        # Whatever order a word was said in is the one that counts from then on.
        keep(store, word_from("tie", "ann", item.interaction, first[::-1], 0))
        assert order_of(store, item, "ann", 0) == first[::-1]
        assert order_of(store, item, "ann", 1) == first
        keep(store, word_from("tie", "ann", item.interaction, first[::-1], 1))
        assert order_of(store, item, "ann", 1) == first[::-1]
    assert orders == {(0, 1), (1, 0)}, "either may come first"


@pytest.mark.parametrize("shown", [(0, 1), (1, 0), (3, 2)])
@pytest.mark.parametrize("say", [*STEPS, BOTH_BAD, "skip", "flag"])
def test_what_is_said_comes_back(say: str, shown: tuple[int, int]) -> None:
    word = word_from(say, "ann", "a" * 32, shown, 1, comment="c", edit=None)
    assert said_of(word) == {"say": say, "note": "c", "edit": None}
    assert (word.shown, word.round) == (shown, 1)


def test_sides() -> None:
    word = word_from("slightly-second", "ann", "a" * 32, (3, 2), 0)
    assert (word.choice, word.over, word.strength) == (2, 3, 0.75)
    thumb = word_from("down", "ann", "a" * 32, (4,), 0)
    assert (thumb.kind, thumb.choice, thumb.label) == ("thumb", 4, False)
    assert said_of(thumb)["say"] == "down"
    with pytest.raises(ValueError, match="nothing to say of this item: up, down"):
        word_from("tie", "ann", "a" * 32, (4,), 0)
