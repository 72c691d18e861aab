from __future__ import annotations

import pytest

from palate.constitution.gates import why_not
from palate.speak.speaker import Reply

BEFORE = "We refund you today."
CRITIQUE = "The reply promises a refund which the desk can never give to anybody at all."


def verdict(text: str, *, finished: bool = True, said: str = "Where is my kettle?") -> str | None:
    return why_not(
        Reply(text, finished), BEFORE, said=[said], critique=CRITIQUE, ours=["Rewrite the reply."]
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I am sorry about the kettle. When did you order it?", None),
        ("", "empty"),
        (" …!\n", "empty"),
        ("we refund you TODAY!", "unchanged"),
        ("Here is the revised reply: when did you order?", "leak"),
        ("Sure! Here's a rewritten version: when did you order?", "leak"),
        ("As the critique says, no refund. When did you order?", "leak"),
        ("Answer: when did you order it?", "leak"),
        ("When did you order it? >>>", "leak"),
        # eight words in a row of the critique; seven are let pass
        ("I know a refund which the desk can never give you.", "leak"),
        ("I know the desk can never give to anybody, sorry.", None),
    ],
)
def test_each_gate(text: str, reason: str | None) -> None:
    assert verdict(text) == reason


def test_a_cut_revision_and_a_failed_one() -> None:
    assert verdict("I am sorry about", finished=False) == "truncated"
    failed = Reply("", finished=False, failure="prompt-too-long")
    assert why_not(failed, BEFORE, said=[], critique="", ours=[]) == "prompt-too-long"


def test_what_the_customer_speaks_about_is_no_leak() -> None:
    text = "A critique of a film begins with its story. Which film is it?"
    assert verdict(text) == "leak"
    assert verdict(text, said="How do I write a critique of a film?") is None
