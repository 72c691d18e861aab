"""Votes in the store, and how a pairing stands by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.curate.signals import Judged, settle
from palate.evaluate.intervals import wilson
from palate.records import Message, Signal
from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.reading import find, stored
from palate.store.remarks import keep
from palate.ui.arena.votes import Answer, goes_on, store_vote, tally

PROMPT = (Message("user", "hello"),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "palate.db") as opened:
        yield opened


def vote(store: Store, choice: str, left: str = "new", right: str = "old", talk: str = "t") -> str:
    answers = (Answer(left, f"{left} says"), Answer(right, f"{right} says", cut=True))
    return store_vote(store, PROMPT, answers, choice, "ann", talk)


@pytest.mark.parametrize(
    ("choice", "kind", "better", "over", "strength"),
    [
        ("1", "vote", 0, 1, 1.0),
        ("2", "vote", 0, 1, 0.75),
        ("3", "tie", 0, 1, None),
        ("4", "vote", 1, 0, 0.75),
        ("5", "vote", 1, 0, 1.0),
        ("bad", "vote", None, None, None),
    ],
)
def test_a_vote_is_an_interaction_with_both_answers_and_an_event(
    store: Store,
    choice: str,
    kind: str,
    better: int | None,
    over: int | None,
    strength: float | None,
) -> None:
    one = find(store, vote(store, choice))
    left, right = one.example.completions
    assert (left.source, left.text, left.finish_reason) == ("new", "new says", "stop")
    assert (right.source, right.text, right.finish_reason) == ("old", "old says", "length")
    assert one.example.prompt == PROMPT
    (said,) = one.signals
    assert (said.kind, said.choice, said.over) == (kind, better, over)
    assert (said.strength, said.by) == (strength, "ann")


def test_a_vote_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="a vote is one of"):
        vote(store, "6")
    assert not list(stored(store))


def test_votes_train(store: Store) -> None:
    """A clear vote and both bad, as a recipe over this store reads them."""
    vote(store, "5")
    vote(store, "bad", talk="u")
    found = settle([Judged(one.example, one.signals) for one in stored(store)], lambda _: None)
    pairs = [one for one in found if one.verdict is not None]
    assert [(one.chosen.text, one.rejected.text) for one in pairs] == [("old says", "new says")]
    thumbs = [answer.label for one in found if one.verdict is None for answer in one.completions]
    assert thumbs == [False, False]


def test_the_tally_counts_whichever_side_and_leaves_others_out(store: Store) -> None:
    """Of new: 3 won (one of them on the right), 1 tie, 2 lost, 1 both bad: (3 + ½) / 6.

    Seven conversations with a vote each; fewer than five on a side, so Wilson's interval.
    """
    for number, choice in enumerate(["1", "2", "3", "4", "5", "bad"]):
        vote(store, choice, talk=str(number))
    vote(store, "5", "old", "new", talk="swapped")
    vote(store, "1", "new", "third")
    keep(store, "palate chat", next(stored(store)).example, Signal((), "vote", choice=0, over=1))
    found = tally(store, "new", "old")
    assert (found.wins, found.ties, found.losses, found.bad) == (3, 1, 2, 1)
    assert found.rate == pytest.approx(3.5 / 6)
    assert (found.low, found.high) == pytest.approx(wilson(3.5, 6))
    other = tally(store, "old", "new")
    assert (other.wins, other.losses, other.rate) == (2, 3, pytest.approx(2.5 / 6))


def test_turns_of_one_conversation_are_one_trial(store: Store) -> None:
    """Ten votes in one conversation say no more of the next one than one does."""
    for _ in range(10):
        vote(store, "1")
    found = tally(store, "new", "old")
    assert (found.wins, found.rate) == (10, 1.0)
    assert (found.low, found.high) == pytest.approx(wilson(1, 1))


def test_nothing_and_what_was_erased(store: Store) -> None:
    name = vote(store, "1")
    vote(store, "bad")
    erase(store, [find(store, name).id])
    found = tally(store, "new", "old")
    assert (found.wins, found.bad, found.rate, found.low) == (0, 1, None, None)


def test_what_a_conversation_goes_on_from() -> None:
    assert [goes_on(choice) for choice in ("1", "2", "3", "4", "5", "bad")] == [0, 0, 0, 1, 1, None]
