"""Verdicts of judges in a store: once each, beside each other, and gone with what they are of."""

from __future__ import annotations

from tests.store.arrivals import chat

from palate.records import Signal
from palate.store.database import Store
from palate.store.erasing import erase, erase_user
from palate.store.judging import Judgement, add_judgements, judgement_id, known_judgements
from palate.store.reading import counts, find, interactions, stored, stored_of


def judgement(store: Store, name: str, judge: str = "one", **said: object) -> Judgement:
    key = find(store, name).id
    signal = Signal((), "vote", 0, over=1, by="judge/m", name="judge/m", **said)  # type: ignore[arg-type]
    return Judgement(judgement_id(judge, key, (0, 1)), key, signal)


def filled(store: Store) -> None:
    rows = [
        chat("b?", "x", "y", ids=("o:2",), user="bob", time="2026-01-02"),
        chat("a?", "x", "y", ids=("o:1",), user="ann", time="2026-01-01"),
    ]
    store.add(rows, "log")


def test_each_word_once(store: Store) -> None:
    filled(store)
    first = judgement(store, "o:1", strength=0.9)
    assert add_judgements(store, [first], "judge/m") == 1
    again = judgement(store, "o:1", strength=0.6)  # the same judge on the same answers
    assert add_judgements(store, [again, judgement(store, "o:2")], "judge/m") == 1
    (said,) = find(store, "o:1").signals
    assert (said.strength, said.by, said.kind) == (0.9, "judge/m", "vote")
    assert said.provenance[0].source == "judge/m"
    assert add_judgements(store, [judgement(store, "o:1", "two")], "judge/m") == 1
    assert len(find(store, "o:1").signals) == 2
    assert known_judgements(store, [first.id, "none"]) == {first.id}
    assert add_judgements(store, [], "judge/m") == 0


def test_an_id_follows_from_judge_interaction_and_places() -> None:
    one = judgement_id("j", "i", (0, 1))
    assert one == judgement_id("j", "i", (0, 1))
    others = [judgement_id("k", "i", (0, 1)), judgement_id("j", "h", (0, 1))]
    others += [judgement_id("j", "i", places) for places in ((1, 0), (0,), (0, 2))]
    assert len({one, *others}) == 6


def test_nothing_is_added_to_what_was_erased_meanwhile(store: Store) -> None:
    filled(store)
    said = [judgement(store, "o:1"), judgement(store, "o:2")]
    erase_user(store, "ann")
    assert add_judgements(store, said, "judge/m") == 1
    assert counts(store) == {"interactions": 1, "erased": 1, "vote": 1}


def test_a_verdict_is_erased_with_its_interaction_and_does_not_come_back(store: Store) -> None:
    filled(store)
    said = judgement(store, "o:1", comment="the raw words")
    add_judgements(store, [said], "judge/m")
    assert erase(store, [said.interaction]).events == 1
    assert add_judgements(store, [said], "judge/m") == 0
    assert counts(store) == {"interactions": 1, "erased": 1}


def test_interactions_in_the_order_of_time(store: Store) -> None:
    filled(store)
    keys = interactions(store)
    assert keys == [one.id for one in stored(store)]
    assert [one.example.prompt[0].content for one in stored_of(store, keys)] == ["a?", "b?"]
    assert [one.id for one in stored_of(store, [keys[1], "none"])] == [keys[1]]
    erase(store, keys[:1])
    assert interactions(store) == keys[1:]
    assert [one.id for one in stored_of(store, keys)] == keys[1:]
