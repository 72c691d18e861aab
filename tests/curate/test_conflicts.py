"""Verdicts on the same two answers, ranked both ways: who weighs more, and how many."""

from __future__ import annotations

import pytest

from palate.curate.conflicts import resolve_conflicts
from palate.records import Completion, Example, Message, Reject, Verdict

A, B = (Completion((Message("assistant", text),)) for text in "AB")


def verdict(text: str) -> Example:
    """`A>B vote`, or the other way round."""
    order, by = text.split()
    better = 0 if order == "A>B" else 1
    return Example((Message("user", "Q?"),), (A, B), verdict=Verdict(better, 1 - better, by))


@pytest.mark.parametrize(
    ("rows", "kept", "reasons"),
    [
        ("A>B vote", "A>B vote", []),
        ("A>B vote, A>B score", "A>B vote, A>B score", []),
        # The weightier kind wins, however many there are of the other.
        ("A>B vote, B>A thumbs, B>A thumbs", "A>B vote", ["overruled"] * 2),
        ("A>B thumbs, B>A regeneration", "A>B thumbs", ["overruled"]),
        ("A>B score, B>A regeneration", "B>A regeneration", ["overruled"]),
        ("A>B edit, B>A file", "", ["contradictory"] * 2),
        # Of one kind the majority, and nobody on a tie.
        ("A>B vote, B>A vote", "", ["contradictory"] * 2),
        ("A>B vote, B>A vote, B>A edit", "B>A vote, B>A edit", ["overruled"]),
        ("A>B vote, B>A vote, A>B thumbs", "", ["contradictory"] * 3),
    ],
)
def test_who_wins(rows: str, kept: str, reasons: list[str]) -> None:
    rejects: list[Reject] = []
    examples = [verdict(text) for text in rows.split(", ")]
    expected = [verdict(text) for text in kept.split(", ") if text]
    assert resolve_conflicts(examples, rejects.append) == expected
    assert [reject.reason for reject in rejects] == reasons


def test_other_prompts_and_examples_without_a_verdict_are_left() -> None:
    other = Example((Message("user", "R?"),), (A, B), verdict=Verdict(1, 0))
    plain = Example((Message("user", "Q?"),), (A,))
    rows = [verdict("A>B vote"), other, plain]
    assert resolve_conflicts(rows, lambda _: None) == rows
