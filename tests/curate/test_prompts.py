"""Prompts to be answered anew: each once, with the best answer that is known."""

from __future__ import annotations

import pytest

from palate.curate.prompts import make_prompts
from palate.records import Completion, Example, Message, Reject, Verdict


def ask(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def answer(text: str, **more: object) -> Completion:
    return Completion((Message("assistant", text),), **more)  # type: ignore[arg-type]


def made(*examples: Example) -> tuple[list[list[str]], dict[str, int]]:
    rejects: list[Reject] = []
    found, counts = make_prompts(examples, rejects.append)
    assert not rejects, "a prompt that stands in many rows is one prompt, and none is lost"
    assert all(one.verdict is None for one in found)
    return [[c.text for c in one.completions] for one in found], dict(counts)


GOOD, BAD = answer("good"), answer("bad")


@pytest.mark.parametrize(
    ("completions", "verdict", "known"),
    [
        ((BAD, GOOD), Verdict(1, 0), ["good"]),
        ((GOOD,), None, ["good"]),
        ((BAD, GOOD), None, []),  # nobody knows which is good
        ((answer("bad", label=False),), None, []),
        ((answer("bad", label=False), answer("good", label=True)), None, ["good"]),
        ((answer("bad", score=0.1), answer("good", score=0.7)), None, ["good"]),
        ((answer("half", finish_reason="length"),), None, []),
        ((answer("half", finish_reason="length"), BAD), Verdict(0, 1), []),
        ((), None, []),
    ],
)
def test_the_known_answer(
    completions: tuple[Completion, ...], verdict: Verdict | None, known: list[str]
) -> None:
    found, counts = made(Example(ask("a"), completions, verdict))
    assert found == [known]
    assert counts == {"with a known answer" if known else "without one": 1}


def test_equal_prompts_are_one_with_the_first_answer_that_is_known() -> None:
    rows = [
        Example(ask("a"), ()),
        Example(ask("b"), (answer("first"),)),
        Example(ask("a"), (GOOD,)),
        Example(ask("b"), (answer("second"),)),
    ]
    found, counts = made(*rows)
    assert found == [["good"], ["first"]]
    assert counts == {"with a known answer": 2}


def test_a_thumb_does_not_stay_on_the_known_answer() -> None:
    found, _ = make_prompts([Example(ask("a"), (answer("good", label=True),))], lambda _: None)
    assert found[0].shape == "demonstration"
