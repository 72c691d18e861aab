"""Preferences that a conversation's own course shows."""

from __future__ import annotations

from typing import Any

import pytest

from palate.curate.signals import Judged
from palate.curate.traffic import from_traffic
from palate.records import Completion, Example, Message, Provenance, Signal, Verdict

USER, THANKS = Message("user", "Where is my order?"), Message("user", "Thanks. And now?")


def row(
    minute: int,
    answer: str,
    *history: Message,
    conversation: str | None = "k1",
    signals: tuple[Signal, ...] = (),
) -> Judged:
    tags = {"conversation_id": conversation} if conversation else {}
    where = Provenance("log", minute, f"2026-01-01T10:{minute:02}:00+00:00")
    completion = Completion((Message("assistant", answer),), label=None)
    example = Example(history or (USER,), (completion,), tags=tags, provenance=(where,))
    return Judged(example, signals)


def went_on(minute: int, kept: str, **more: Any) -> Judged:
    return row(minute, "It comes today.", USER, Message("assistant", kept), THANKS, **more)


def pairs(*rows: Judged) -> list[tuple[str, str, str]]:
    """(chosen, rejected, by) of each pair."""
    found = from_traffic(rows)
    return [(e.chosen.text, e.rejected.text, e.verdict.by) for e in found if e.verdict]


AGAIN = (Signal(("o:1",), "again"),)


def test_the_answer_that_the_conversation_went_on_with_is_better() -> None:
    first, second = row(1, "No idea."), row(2, "It left yesterday.")
    assert pairs(first, second, went_on(3, "It left yesterday.")) == [
        ("It left yesterday.", "No idea.", "regeneration")
    ]
    # It may be the first that was kept, after looking at another.
    assert pairs(first, second, went_on(3, "No idea.")) == [
        ("No idea.", "It left yesterday.", "regeneration")
    ]


def test_of_three_the_kept_one_beats_both() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3, "c"), went_on(4, "c")]
    assert pairs(*rows) == [("c", "a", "regeneration"), ("c", "b", "regeneration")]


def test_two_that_were_both_gone_on_with_say_nothing() -> None:
    assert pairs(row(1, "a"), row(2, "b"), went_on(3, "a"), went_on(4, "b")) == []


def test_a_conversation_that_ends_needs_a_word_of_the_user() -> None:
    assert pairs(row(1, "a"), row(2, "b")) == []
    assert pairs(row(1, "a", signals=AGAIN), row(2, "b")) == [("b", "a", "regeneration")]
    assert pairs(row(1, "a"), row(2, "b", signals=AGAIN)) == [], "nothing came after it"


def test_the_order_is_that_of_time() -> None:
    late, early = row(9, "b"), row(1, "a", signals=AGAIN)
    assert pairs(late, early) == [("b", "a", "regeneration")]


def test_users_who_ask_the_same_are_no_conversation() -> None:
    for other in (None, "k2"):
        rows = [row(1, "a", conversation=other), row(2, "b"), went_on(3, "b")]
        assert pairs(*rows) == []
    rows = [row(1, "a", conversation=None, signals=AGAIN), row(2, "b", conversation=None)]
    assert pairs(*rows) == []


def test_the_same_answer_again_is_no_pair() -> None:
    assert pairs(row(1, "a"), row(2, " a "), went_on(3, "a")) == []


def test_an_answer_that_came_back_changed_was_edited() -> None:
    original = "It left our house on Monday at ten."
    edited = "It left our house on Tuesday at ten."
    found = from_traffic([row(1, original), went_on(2, edited)])
    assert [(e.chosen.text, e.rejected.text) for e in found] == [(edited, original)]
    assert [e.verdict for e in found] == [Verdict(0, 1, "edit")]
    assert found[0].prompt == (USER,)
    # The row of the original, and that of the edit: whoever erases either erases the pair.
    assert [p.line for p in found[0].provenance] == [1, 2]


@pytest.mark.parametrize(
    ("kept", "alike"),
    [
        ("one two five six", True),  # 2 words of 4: half
        ("one five six seven", False),  # 1 of 4
        ("one two three four five six seven eight", True),  # 4 of 8
        ("one two three four five six seven eight nine", False),  # 4 of 9
        ("", False),
    ],
)
def test_an_edit_shares_half_of_its_words(kept: str, alike: bool) -> None:
    found = pairs(row(1, "one two three four"), went_on(2, kept))
    assert found == ([(kept, "one two three four", "edit")] if alike else [])


def test_the_original_of_an_edit_is_the_nearest_answer() -> None:
    rows = [row(1, "red green blue"), row(2, "one two three"), went_on(3, "one two four")]
    assert pairs(*rows) == [("one two four", "one two three", "edit")]


def test_rows_with_several_answers_or_a_verdict_are_not_traffic() -> None:
    double = row(1, "a")
    twice = Example(double.example.prompt, double.example.completions * 2, tags=double.example.tags)
    assert from_traffic([Judged(twice), row(2, "b"), went_on(3, "b")]) == []


def test_few_shot_turns_before_the_conversation_are_not_edits() -> None:
    """A prompt that no row was asked is nobody's answer that came back."""
    shot = (Message("user", "x?"), Message("assistant", "y"))
    rows = [row(1, "a", *shot, USER), row(2, "c", *shot, USER, Message("assistant", "a"), THANKS)]
    assert from_traffic(rows) == []


def test_an_edit_comes_from_the_first_row_that_holds_it() -> None:
    later = (USER, Message("assistant", "one two three five"), THANKS)
    rows = [row(1, "one two three four"), row(2, "x", *later)]
    rows.append(row(3, "y", *later, Message("assistant", "x"), USER))
    (pair,) = from_traffic(rows)
    assert [p.line for p in pair.provenance] == [1, 2]
