"""What is said of an answer just now: the answers once, and of one person the last word."""

from __future__ import annotations

from palate.curate.signals import Judged, settle
from palate.records import Completion, Example, Message, Signal
from palate.store.database import Store
from palate.store.reading import counts, find, stored
from palate.store.remarks import keep
from palate.store.sources import sources


def said(*answers: str) -> Example:
    told = tuple(Completion((Message("assistant", text),), source="m") for text in answers)
    return Example((Message("user", "hello"),), told)


def test_answers_and_the_word_on_them_are_one_interaction(store: Store) -> None:
    name = keep(store, "palate chat", said("good"), Signal((), "thumb", label=True))
    assert name.startswith("palate:chat-")
    one = find(store, name)
    assert one.example.prompt == said("good").prompt
    assert one.example.completions == said("good").completions
    (thumb,) = one.signals
    assert (thumb.kind, thumb.label) == ("thumb", True)
    assert thumb.provenance[0].time is not None
    assert [source.name for source in sources(store)] == ["palate chat"]


def test_the_same_answers_again_are_not_told_again_and_the_last_word_counts(store: Store) -> None:
    vote = Signal((), "vote", choice=0, over=1, by="ann")
    name = keep(store, "palate arena", said("a", "b"), vote)
    again = Signal((), "vote", choice=1, over=0, by="ann")
    assert keep(store, "palate arena", said("a", "b"), again, name) == name
    assert counts(store) == {"interactions": 1, "erased": 0, "vote": 1}
    keep(
        store, "palate arena", said("a", "b"), Signal((), "vote", choice=0, over=1, by="bob"), name
    )
    assert len(find(store, name).signals) == 2, "two people have a word each"


def test_equal_answers_of_two_times_are_two(store: Store) -> None:
    """Both can be voted on: a model that says the same thing twice was asked twice."""
    tie = Signal((), "tie", choice=0, over=1, by="ann")
    names = {keep(store, "palate arena", said("a", "a"), tie) for _ in range(2)}
    assert len(names) == 2
    assert counts(store) == {"interactions": 2, "erased": 0, "tie": 2}


def test_a_vote_becomes_a_pair(store: Store) -> None:
    keep(store, "palate arena", said("a", "b"), Signal((), "vote", choice=1, over=0, by="ann"))
    found = settle([Judged(one.example, one.signals) for one in stored(store)], lambda _: None)
    (pair,) = found
    assert (pair.chosen.text, pair.rejected.text) == ("b", "a")
