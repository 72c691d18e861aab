"""Filters: what is dropped, and under which reason."""

import pytest

from palate.curate.filters import apply_filters
from palate.records import Completion, Example, Message, Provenance, Verdict


def _pair(line, chosen, rejected, prompt="q", finish=(None, None)):
    completions = tuple(
        Completion((Message("assistant", text),), finish_reason=reason)
        for text, reason in zip((chosen, rejected), finish, strict=True)
    )
    return Example(
        (Message("user", prompt),),
        completions,
        verdict=Verdict(0, 1),
        provenance=(Provenance("log", line),),
    )


def _run(examples, **options):
    rejects = []
    kept = apply_filters(examples, rejects.append, **options)
    return [e.provenance[0].line for e in kept], [(r.line, r.reason) for r in rejects]


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (_pair(1, "", "b"), "empty-answer"),
        (_pair(1, "a", " \n"), "empty-answer"),
        (_pair(1, "a", "a "), "equal-answers"),
        (_pair(1, "a", "b", finish=("stop", "content_filter")), "provider-error"),
        (_pair(1, "a", "b", finish=("length", "stop")), "truncated"),
    ],
)
def test_faults_of_one_pair(example, reason):
    assert _run([example, _pair(2, "a", "b", "fine")]) == ([2], [(1, reason)])


def test_a_rejected_answer_may_be_truncated():
    assert _run([_pair(1, "a", "b", finish=("stop", "length"))]) == ([1], [])


def test_truncated_answers_can_be_kept():
    example = _pair(1, "a", "b", finish=("length", "stop"))
    assert _run([example], keep_truncated=True) == ([1], [])


def test_tool_calls_are_not_empty():
    call = Completion((Message("assistant", "", tool_calls=({"name": "find"},)),))
    example = Example((Message("user", "q"),), (call,), provenance=(Provenance("log", 1),))
    assert _run([example]) == ([1], [])


def test_contradictions_go_on_both_sides():
    rows = [_pair(1, "a", "b"), _pair(2, "a", "c"), _pair(3, "b", "a"), _pair(4, "b", "a", "other")]
    assert _run(rows) == ([2, 4], [(1, "contradictory"), (3, "contradictory")])


def test_of_duplicates_the_first_stays():
    rejects = []
    rows = [_pair(1, "a", "b"), _pair(2, "a ", "b"), _pair(3, "a", "b", "other")]
    kept = apply_filters(rows, rejects.append)
    assert kept == [rows[0], rows[2]]
    assert [(r.line, r.reason, r.detail) for r in rejects] == [(2, "duplicate", "a copy of log:1")]


def test_demonstrations_with_two_answers_are_not_duplicates():
    rows = [
        Example((Message("user", "q"),), (Completion((Message("assistant", text),)),))
        for text in ["a", "b", "a"]
    ]
    assert len(apply_filters(rows, lambda _: None)) == 2


def test_the_callers_check_comes_last():
    asked = []

    def check(example):
        asked.append(example.provenance[0].line)
        return ("too-long", "5000 tokens") if example.chosen.text == "long" else None

    rows = [_pair(1, "", "b"), _pair(2, "long", "b"), _pair(3, "a", "b"), _pair(4, "a", "b")]
    kept, rejects = _run(rows, check=check)
    assert kept == [3]
    assert rejects == [(1, "empty-answer"), (4, "duplicate"), (2, "too-long")]
    assert asked == [2, 3]


def test_a_prompt_that_is_judged_has_no_answer_and_is_kept():
    alone = Example(
        (Message("user", "q"),), (Completion((), label=False),), provenance=(Provenance("log", 1),)
    )
    unlabelled = Example(alone.prompt, (Completion(()),), provenance=(Provenance("log", 2),))
    assert _run([alone, unlabelled]) == ([1], [(2, "empty-answer")])
