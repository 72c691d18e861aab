"""What is a verdict, and what is none."""

from __future__ import annotations

import math

import pytest

from palate.judge.verdicts import NoVerdict, TokenLogprob, chances, normalised, read_choice


def token(text: str, **top: float) -> TokenLogprob:
    """A token and the chances of what stood in its place."""
    return TokenLogprob(text, tuple((name, math.log(p)) for name, p in top.items()))


@pytest.mark.parametrize("text", ["A", " A\n", "<think>B? No.</think>\n\nA", "\n<think></think>A"])
def test_a_letter_and_nothing_else(text: str) -> None:
    assert read_choice(text, ("A", "B")) == "A"


@pytest.mark.parametrize(
    "text",
    [
        "A.",
        "**A**",
        "Answer A",
        "A, because B",
        "AB",
        "<think>A</think>",
        "<think>x</think></think>A",
        "А",  # Cyrillic
        "A\u200b",
    ],
)
def test_anything_else_is_no_verdict(text: str) -> None:
    with pytest.raises(NoVerdict):
        read_choice(text, ("A", "B"))


def test_json_has_the_verdict_alone() -> None:
    assert read_choice('{"verdict": "B"}', ("A", "B"), "json") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "B",
        '{"verdict": "C"}',
        '{"verdict": ["A"]}',
        '{"verdict": "A", "why": "x"}',
        '{"verdict": "A", "verdict": "B"}',
        '{"verdict": "A"} {"verdict": "B"}',
        '```json\n{"verdict": "A"}\n```',
        '["verdict"]',
        "[" * 100_000,
    ],
)
def test_other_json_is_no_verdict(text: str) -> None:
    with pytest.raises(NoVerdict):
        read_choice(text, ("A", "B"), "json")


def test_chances_are_of_the_last_token_that_is_the_choice() -> None:
    tokens = [token("A", A=0.9), token(" or ", x=1), token("B", A=0.1, B=0.3, C=0.5)]
    told = chances("A or B", "B", ("A", "B"), tokens)
    assert told == {"A": pytest.approx(0.25), "B": pytest.approx(0.75)}


def test_quotes_and_spaces_belong_to_no_letter() -> None:
    tokens = [token('{"verdict": ', x=1), token('"A"', **{'"A"': 0.2, '"A': 0.2, '"B"': 0.1})]
    told = chances('{"verdict": "A"', "A", ("A", "B"), tokens)
    assert told == {"A": pytest.approx(0.8), "B": pytest.approx(0.2)}


def test_tokens_of_another_text_tell_nothing() -> None:
    assert chances("A", "A", ("A", "B"), []) is None
    assert chances("A", "A", ("A", "B"), [token("B", A=1)]) is None
    assert chances("A", "A", ("A", "B"), [token("A", x=1)]) is None


def test_normalised_chances() -> None:
    assert normalised({"A": math.log(2) - 1000, "B": math.log(6) - 1000}) == {
        "A": pytest.approx(0.25),
        "B": pytest.approx(0.75),
    }
    assert normalised({"A": -math.inf, "B": -math.inf}) is None
    assert normalised({"A": math.nan, "B": 0.0}) is None
