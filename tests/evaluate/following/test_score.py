"""Strict and loose scores, by prompt and by instruction, by hand."""

import pytest

from palate.evaluate.following.instruction import Instruction, loosened
from palate.evaluate.following.prompts import InstructedPrompt
from palate.evaluate.following.score import score
from palate.evaluate.intervals import wilson

NO_COMMA = Instruction("punctuation:no_comma", {})
TITLE = Instruction("detectable_format:title", {})
WRAPPED = Instruction("startend:quotation", {})


def _row(key, *asked):
    return InstructedPrompt(key, "p", asked)


def test_the_eight_readings():
    assert set(loosened("Sure:\n*a*\nBye")) == {
        "Sure:\n*a*\nBye",
        "*a*\nBye",
        "Sure:\n*a*",
        "*a*",
        "Sure:\na\nBye",
        "a\nBye",
        "Sure:\na",
        "a",
    }
    assert len(loosened("one line")) == 8
    assert set(loosened("one line")) == {"one line", ""}
    assert "b" in loosened("a\r\nb\r\nc")


def test_strict_and_loose():
    rows = [_row("1", NO_COMMA, TITLE), _row("2", WRAPPED), _row("3", NO_COMMA), _row("4", TITLE)]
    answers = [
        "Sure, here it is:\n<<Tea>>",  # the comma is in the first line
        '*"Tea"*',  # wrapped once the asterisks are gone
        "Tea",
        "Tea",
    ]
    got = score(rows, answers)
    assert [p.strict for p in got.prompts] == [(False, True), (False,), (True,), (False,)]
    assert [p.loose for p in got.prompts] == [(True, True), (True,), (True,), (False,)]
    assert [p.key for p in got.prompts] == ["1", "2", "3", "4"]
    assert (got.prompt_strict.followed, got.prompt_strict.of) == (1, 4)
    assert (got.prompt_loose.followed, got.prompt_loose.of) == (3, 4)
    assert (got.instruction_strict.followed, got.instruction_strict.of) == (2, 5)
    assert (got.instruction_loose.followed, got.instruction_loose.of) == (4, 5)
    assert got.instruction_strict.value == 0.4
    assert [(k.kind, k.strict.followed, k.loose.followed, k.loose.of) for k in got.kinds] == [
        ("detectable_format:title", 1, 1, 2),
        ("punctuation:no_comma", 1, 2, 2),
        ("startend:quotation", 0, 1, 1),
    ]


def test_an_instruction_is_loose_by_a_reading_of_its_own():
    """The comma goes with the first line, the title is in it: no one reading has both."""
    got = score([_row("1", NO_COMMA, TITLE)], ["<<Tea>>, hot\nWater"])
    assert got.prompts[0].loose == (True, True)


def test_intervals_by_what_the_trials_are():
    one_each = score([_row(str(n), NO_COMMA) for n in range(4)], ["a", "a", "a,", "a,"])
    assert (one_each.prompt_strict.low, one_each.prompt_strict.high) == wilson(2, 4)
    assert (one_each.instruction_strict.low, one_each.instruction_strict.high) == wilson(2, 4)

    # Two instructions a prompt, and all or nothing of each: worth 4 trials, not 8.
    few = score([_row(str(n), NO_COMMA, TITLE) for n in range(4)], ["<<a>>", "<<a>>", ",", ","])
    assert few.instruction_strict.of == 8
    assert (few.instruction_strict.low, few.instruction_strict.high) == wilson(2, 4)

    rows = [_row(str(n), NO_COMMA, TITLE) for n in range(40)]
    many = score(rows, ["<<a>>"] * 20 + [","] * 20)
    as_40, as_80 = wilson(20, 40), wilson(40, 80)
    low, high = many.instruction_strict.low, many.instruction_strict.high
    assert low == pytest.approx(as_40[0], abs=0.04)
    assert high == pytest.approx(as_40[1], abs=0.04)
    assert low < as_80[0] < as_80[1] < high


def test_two_of_one_kind_in_a_prompt():
    twice = [Instruction("keywords:existence", {"keywords": [word]}) for word in ("tea", "milk")]
    got = score([_row("1", *twice)], ["tea"])
    assert (got.kinds[0].strict.followed, got.kinds[0].strict.of) == (1, 2)
    assert (got.kinds[0].strict.low, got.kinds[0].strict.high) == wilson(0.5, 1)


def test_one_answer_for_each_prompt():
    with pytest.raises(ValueError, match="1 answers to 2 prompts"):
        score([_row("1", TITLE), _row("2", TITLE)], ["a"])
    with pytest.raises(ValueError, match="0 answers to 0 prompts"):
        score([], [])
