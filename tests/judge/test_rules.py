"""Loading a rule by its name, and what a rule may return."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.judge.rules import RuleResult, load_rule
from palate.records import Message

PROMPT = (Message("user", "Where is my parcel?"),)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """A file of rules, as the part of a rule's name before the colon."""
    path = tmp_path / "house.py"
    path.write_text(
        "from palate.judge.rules import RuleResult\n"
        "limit = 3\n"
        "def question(prompt, answer):\n"
        "    return answer.rstrip().endswith('?')\n"
        "def graded(prompt, answer):\n"
        "    return min(1.0, len(answer.split()) / 4)\n"
        "def whole(prompt, answer):\n"
        "    short = len(answer.split()) <= limit\n"
        "    return RuleResult(short, 1.0 if short else 0.5, () if short else ('length',))\n"
        "def echo(prompt, answer):\n"
        "    return prompt[-1].content == answer\n"
        "def wrong(prompt, answer):\n"
        "    return {'yes': 2, 'no': 'no', 'none': None}[answer]\n"
        "def broken(prompt, answer):\n"
        "    raise KeyError('ticket')\n"
    )
    return str(path)


def test_a_rule_from_a_file(rules: str) -> None:
    rule = load_rule(f"{rules}:whole")
    assert rule(PROMPT, "On its way.") == RuleResult(True, 1.0)
    assert rule(PROMPT, "It is on its way.") == RuleResult(False, 0.5, ("length",))


def test_a_rule_from_a_module(rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(rules).parent))
    assert load_rule("house:question")(PROMPT, "Which one?").passed


def test_a_bool_becomes_a_result(rules: str) -> None:
    rule = load_rule(f"{rules}:question")
    assert rule(PROMPT, "Which one? ") == RuleResult(True, 1.0)
    assert rule(PROMPT, "That one.") == RuleResult(False, 0.0)


def test_a_number_passes_at_one_and_grades_below(rules: str) -> None:
    rule = load_rule(f"{rules}:graded")
    assert rule(PROMPT, "one two") == RuleResult(False, 0.5)
    assert rule(PROMPT, "one two three four five") == RuleResult(True, 1.0)


def test_a_rule_sees_the_prompt(rules: str) -> None:
    assert load_rule(f"{rules}:echo")(PROMPT, "Where is my parcel?").passed


@pytest.mark.parametrize("answer", ["yes", "no", "none"])
def test_anything_else_is_refused_with_the_cure(rules: str, answer: str) -> None:
    with pytest.raises(ValueError, match=r"return a RuleResult, a bool or a number in \[0, 1\]"):
        load_rule(f"{rules}:wrong")(PROMPT, answer)


def test_what_a_rule_raises_is_not_hidden(rules: str) -> None:
    with pytest.raises(
        ValueError, match=r":broken' failed on an answer: KeyError: 'ticket'"
    ) as error:
        load_rule(f"{rules}:broken")(PROMPT, "x")
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize("spec", ["", "house", ":question", "house.py:"])
def test_a_name_without_two_halves(spec: str) -> None:
    with pytest.raises(ValueError, match=r"module:function or file\.py:function"):
        load_rule(spec)


def test_names_that_lead_nowhere(rules: str) -> None:
    with pytest.raises(ValueError, match=r"no function 'qestion'.*did you mean 'question'"):
        load_rule(f"{rules}:qestion")
    with pytest.raises(ValueError, match="no function 'limit'"):
        load_rule(f"{rules}:limit")
    with pytest.raises(ValueError, match="there is no file"):
        load_rule("nowhere/house.py:question")
    with pytest.raises(ValueError, match="cannot be imported"):
        load_rule("palate.no_such_module:question")
