"""The queue: nothing twice, nothing lost, two where two are wanted, and some once more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.store.arrivals import chat, signal

from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.items import Item, settle_home
from palate.store.reading import find
from palate.store.voting import Word, keep, withdraw, words
from palate.ui.label.queue import Queue, Served
from palate.ui.label.ranking import canonical, share

PATIENCE = 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "palate.db")


@pytest.fixture
def start(store: Store) -> Iterator[Callable[..., Queue]]:
    made: list[Queue] = []

    def begin(**settings: Any) -> Queue:
        queue = Queue(store, **({"overlap": 0.0, "twice": 0.0} | settings))
        made.append(queue)
        assert queue.ready(PATIENCE)
        return queue

    yield begin
    for queue in made:
        queue.close()


def fill(store: Store, pairs: int, singles: int = 0) -> None:
    rows = [chat(f"pair {n}?", "x", "y", ids=(f"p:{n}",)) for n in range(pairs)]
    rows += [chat(f"single {n}?", "x", ids=(f"s:{n}",)) for n in range(singles)]
    store.add(rows, "log")


def served(queue: Queue, who: str, show: Any = "pairs", held: Any = ()) -> Served:
    """The next item, where there is one."""
    found = queue.next(who, show, held)
    assert found is not None
    return found


def say(queue: Queue, who: str, found: Served, kind: Any = "vote", **more: Any) -> Word:
    """Vote for the first answer, on the disk and in the queue."""
    item = found.item
    stands = settle_home(queue.store, item)
    said = {"choice": item.places[0], "over": item.places[-1]} if kind != "skip" else {}
    word = Word(who, stands, item.places, kind, round=found.round, **said | more)
    keep(queue.store, word, item.key)
    queue.note(item, word)
    return word


def everything(queue: Queue, who: str, kind: Any = "vote", show: Any = "pairs") -> list[Served]:
    """What one annotator is given until nothing is left, voting on each."""
    given: list[Served] = []
    while (one := queue.next(who, show)) is not None:
        given.append(one)
        say(queue, who, one, kind)
        assert len(given) < 1_000
    return given


def test_each_item_once_and_never_again(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 6, 2)
    queue = start()
    assert queue.progress("ann", "pairs").left == 6
    mine = everything(queue, "ann")
    assert len({one.item for one in mine}) == len(mine) == 6
    assert {one.round for one in mine} == {0}
    assert queue.next("eve", "pairs") is None, "each is for one"
    assert len(everything(queue, "eve", "thumb", "single")) == 2
    done, left = queue.progress("ann", "pairs"), queue.progress("eve", "pairs")
    assert (done.mine, done.total, done.left) == (6, 6, 0)
    assert (left.mine, left.total, left.left, left.reading) == (0, 6, 0, False)
    # Another server, or this one started again, knows it from the store.
    again = start()
    assert again.next("ann", "pairs") is None
    assert again.progress("ann", "pairs") == done


def test_the_same_page_again_shows_the_same(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 3, 1)
    queue = start()
    first = served(queue, "ann", "pairs")
    assert first == served(queue, "ann", "pairs")
    second = served(queue, "ann", "pairs", [first.item.key])
    assert second.item != first.item
    assert served(queue, "ann", "pairs") == first, "what was taken first"
    assert served(queue, "ann", "single").item.places == (0,)
    say(queue, "ann", first)
    assert served(queue, "ann", "pairs") == second
    assert served(queue, "eve", "pairs").item not in {first.item, second.item}


def test_a_lease_that_ends_frees_the_item_and_a_late_vote_is_kept(
    store: Store, start: Callable[..., Queue]
) -> None:
    fill(store, 1)
    queue = start(minutes=-1)
    first = served(queue, "ann", "pairs")
    assert served(queue, "eve", "pairs") == first
    say(queue, "eve", first)
    late = say(queue, "ann", first)
    assert {word.annotator for word in words(store)} == {"ann", "eve"}
    assert late.id in {word.id for word in words(store)}
    assert queue.progress("ann", "pairs").mine == 1


def test_skipped_items_go_to_others(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 2)
    queue = start()
    skipped = everything(queue, "ann", "skip")
    assert len(skipped) == 2
    assert queue.progress("ann", "pairs").left == 0
    assert queue.progress("ann", "pairs").mine == 0
    assert {one.item for one in everything(queue, "eve")} == {one.item for one in skipped}


def test_flagged_items_go_to_others_last(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 5)
    queue = start()
    reported = served(queue, "ann", "pairs")
    say(queue, "ann", reported, "flag", choice=None, over=None)
    given = everything(queue, "eve")
    assert len(given) == 5
    assert given[-1].item == reported.item


def test_undo_gives_the_item_back_to_whoever_had_it(
    store: Store, start: Callable[..., Queue]
) -> None:
    fill(store, 3)
    queue = start()
    first = served(queue, "ann", "pairs")
    word = say(queue, "ann", first)
    second = served(queue, "ann", "pairs")
    withdraw(store, word.id)
    queue.forget(first.item, word)
    assert queue.progress("ann", "pairs").left == 3
    assert {served(queue, "ann", "pairs"), served(queue, "ann", "pairs", [second.item.key])} == {
        first,
        second,
    }
    assert served(queue, "eve", "pairs").item not in {first.item, second.item}


def test_the_overlap_is_for_two(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 40)
    queue = start(overlap=0.3)
    wanted = {
        one.item.key: 2 if share("overlap", canonical(one.item)) < 0.3 else 1
        for one in (Served(Item(find(store, f"p:{n}").id, (0, 1)), 0) for n in range(40))
    }
    assert 0 < list(wanted.values()).count(2) < 40
    said = Counter[str]()
    for who in ("ann", "eve", "bob"):
        given = [one.item.key for one in everything(queue, who)]
        assert len(set(given)) == len(given)
        said.update(given)
    assert said == wanted


def test_what_another_has_begun_comes_first(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 30)
    queue = start(overlap=0.2)
    mine = [one.item for one in everything(queue, "ann")]
    both = [item for item in mine if queue.wanted(canonical(item)) == 2]
    store.add([chat(f"late {n}?", "x", "y", ids=(f"l:{n}",)) for n in range(5)], "log")
    queue = start(overlap=0.2)
    given = [one.item for one in everything(queue, "eve")]
    assert set(given[: len(both)]) == set(both)
    assert len(given) == len(both) + 5


def test_some_pairs_come_again_after_twenty_others(
    store: Store, start: Callable[..., Queue]
) -> None:
    fill(store, 60)
    queue = start(twice=0.1)
    given = everything(queue, "ann")
    first = [one for one in given if one.round == 0]
    again = [one for one in given if one.round == 1]
    chosen = {i.item for i in first if share("twice", "ann", canonical(i.item)) < 0.1}
    order = {one.item: place for place, one in enumerate(given) if one.round == 0}
    assert len(first) == 60
    assert 0 < len(again) <= len(chosen)
    places = {one.item: place for place, one in enumerate(given) if one.round == 1}
    assert len(places) == len(again), "once only"
    for item, place in places.items():
        assert item in chosen
        assert place - order[item] > 20
    # All of which 20 others came after have come again.
    due = {item for item in chosen if len(given) - order[item] > 21}
    assert due == places.keys()
    assert len([word for word in words(store) if word.round == 1]) == len(again)


def test_twenty_annotators_at_once(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 60)
    queue = start(overlap=0.25)
    given: dict[str, list[str]] = defaultdict(list)

    def work(who: str) -> None:
        while (one := queue.next(who, "pairs")) is not None:
            say(queue, who, one)
            given[who].append(canonical(one.item))

    names = [f"annotator {n}" for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, names))
    counted = Counter(key for keys in given.values() for key in keys)
    every = {canonical(Item(find(store, f"p:{n}").id, (0, 1))) for n in range(60)}
    assert counted == {key: queue.wanted(key) for key in every}, "none lost, none doubled"
    assert all(len(set(keys)) == len(keys) for keys in given.values())
    kept = Counter(f"{word.interaction}.0.1" for word in words(store))
    assert kept == counted, "and each is in the store"


def test_disagreement_comes_first(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 12)
    store.add([signal("p:7", "vote", choice=0, over=1, by="a")], "arena")
    store.add([signal("p:7", "vote", choice=1, over=0, by="judge/m", line=2)], "judge")
    queue = start()
    assert served(queue, "ann", "pairs").item.interaction == find(store, "p:7").id


def test_two_rows_of_one_prompt_are_an_item_once(store: Store, start: Callable[..., Queue]) -> None:
    store.add([chat("q?", text, ids=(f"o:{text}",)) for text in "xy"], "log")
    queue = start()
    found = served(queue, "ann")
    assert found.item.other is not None
    say(queue, "ann", found)
    assert queue.next("ann", "pairs") is None
    assert queue.next("eve", "pairs") is None
    again = start()
    assert again.next("ann", "pairs") is None
    assert again.progress("ann", "pairs").total == 1


def test_what_was_deleted_is_passed_over(store: Store, start: Callable[..., Queue]) -> None:
    fill(store, 2)
    queue = start()
    first = served(queue, "ann", "pairs")
    erase(store, [first.item.interaction])
    queue.gone(first.item)
    assert served(queue, "ann", "pairs").item != first.item
    assert queue.progress("ann", "pairs").left == 1


def test_the_store_is_read_again_when_it_has_grown(
    store: Store, start: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.ui.conftest import until

    from palate.ui.label import queue as module

    monkeypatch.setattr(module, "_LOOK", 0.05)
    fill(store, 1)
    queue = start()
    assert len(everything(queue, "ann")) == 1
    store.add([chat("new?", "x", "y", ids=("n:1",))], "log")
    found = until(lambda: queue.next("ann", "pairs"), "the new pair")
    assert found.item.interaction == find(store, "n:1").id


def test_words_during_a_reading_are_not_forgotten(store: Store) -> None:
    from palate.ui.label.memory import Memory

    memory = Memory(lambda key: 1)
    before = Word("ann", "a" * 32, (0, 1), "vote", 0, 1)
    meanwhile = Word("ann", "b" * 32, (0, 1), "vote", 0, 1)
    memory.begin()
    memory.note(f"{'b' * 32}.0.1", meanwhile)
    memory.forget(f"{'a' * 32}.0.1", before)
    memory.replace([before])  # as the store had it when it was asked
    assert memory.seen("ann") == {f"{'b' * 32}.0.1"}
    assert memory.is_done(f"{'b' * 32}.0.1")
    assert not memory.is_done(f"{'a' * 32}.0.1")
