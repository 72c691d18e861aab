"""The scan: what can be labelled, found in batches, whatever their size."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from tests.store.arrivals import chat, signal

from palate.records import Message
from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.items import Item, across, settle_home
from palate.store.reading import find
from palate.ui.label.ranking import Opinion
from palate.ui.label.scan import Found, scan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "palate.db")


def scanned(store: Store, batch: int = 500) -> Found:
    return deque(scan(store, batch), maxlen=1).pop()


def pairs(found: Found) -> set[Item]:
    return {one.item for one in [*found.pairs, *found.across()]}


def test_pairs_and_single_answers(store: Store) -> None:
    rows = [
        chat("two?", "x", "y", ids=("o:2",)),
        chat("one?", "x", ids=("o:1",)),
        chat("same?", "x", " x ", ids=("o:s",)),
        chat("empty?", "x", "", ids=("o:e",)),
        chat("none?", ids=("o:n",)),
    ]
    store.add(rows, "log")
    for batch in (1, 2, 500):
        found = scanned(store, batch)
        assert pairs(found) == {Item(find(store, "o:2").id, (0, 1))}
        assert [one.item for one in found.singles] == [Item(find(store, "o:1").id, (0,))]
        assert found.interactions == 5
    erase(store, [find(store, "o:2").id])
    assert pairs(scanned(store)) == set()


def test_many_answers_give_neighbours_by_score(store: Store) -> None:
    store.add([chat("q?", "a", "b", "c", "d", ids=("o:1",))], "log")
    key = find(store, "o:1").id
    assert pairs(scanned(store)) == {Item(key, (0, 1)), Item(key, (1, 2)), Item(key, (2, 3))}
    scores = {0: 5.0, 1: 1.0, 2: 4.0, 3: 2.0}
    said = [signal("o:1", "score", choice=at, score=value) for at, value in scores.items()]
    store.add(said, "judge")
    # From the best: 0 (5), 2 (4), 3 (2), 1 (1).
    assert pairs(scanned(store)) == {Item(key, (0, 2)), Item(key, (2, 3)), Item(key, (1, 3))}
    gaps = {one.item.places: one.opinion for one in scanned(store).pairs}
    assert gaps[0, 2] == Opinion(scores=1.0)
    assert gaps[2, 3] == Opinion(scores=2.0)
    store.add([signal("o:1", "vote", choice=1, over=0)], "arena")
    assert Item(key, (0, 1)) in pairs(scanned(store)), "what somebody has ranked"


def test_one_prompt_in_two_rows(store: Store) -> None:
    rows = [chat("q?", text, ids=(f"o:{text}",)) for text in "abcde"]
    rows.append(chat("q?", "a", ids=("p:again",), user="other"))
    rows.append(chat("q?", "z", ids=("o:z",), before=(Message("system", "Be brief."),)))
    store.add(rows, "log")
    found = scanned(store)
    made = [one.item for one in found.across()]
    assert len(made) == 2, "five answers make two pairs, none twice"
    used = [key for item in made for key in (item.interaction, item.other)]
    assert len(set(used)) == 4
    assert find(store, "o:z").id not in used, "another system prompt is another prompt"
    # What has been put beside another is not paired anew.
    key = settle_home(store, made[0])
    again = scanned(store)
    assert Item(key, (0, 1)) in {one.item for one in again.pairs}
    assert [one.item for one in again.across() if one.item in made] == [made[1]]
    assert {one.key for one in again.pairs} == {f"{key}.0.1"}
    assert made[0].stands == key


def test_the_opinions_are_those_of_the_events(store: Store) -> None:
    store.add([chat("q?", "a", label=True, ids=("o:1",)), chat("q?", "b", label=False)], "log")
    store.add([signal("o:1", "edit", edit=(Message("assistant", "c"),))], "log")
    (found,) = scanned(store).across()
    assert found.opinion == Opinion(judged=True, gap=1.0)
    assert [one.opinion for one in scanned(store).singles] == [Opinion(judged=True)] * 2
    assert found.item == across(*(one.item.interaction for one in scanned(store).singles))
