"""Argilla and Label Studio: freely named fields, several annotators."""

import pytest
from tests.ingest.fixture_rows import FIVE, HELLO, HI, RENT, answer, read, rows, signals

from palate.ingest import argilla, label_studio
from palate.ingest.opinions import majority
from palate.ingest.sides import answers_of, prompt_of
from palate.records import Message, RecordError, Verdict

NO_IDEA = Message("assistant", "No idea.")


def test_argilla():
    found, rejects = read("argilla")
    assert not rejects
    (voted,) = found[1]
    assert voted.record.prompt == (RENT,)
    assert voted.record.completions == (answer(NO_IDEA), answer(FIVE))
    # two of three annotators, and the model's suggestion does not count
    assert voted.record.verdict == Verdict(1, 0, by="vote", strength=2 / 3)
    assert voted.record.tags == {"desk": "rental"}
    assert voted.ids == ("argilla:record/1c1c1c1c-0001-4d3a-9a51-7c2f3b8e0001",)
    rated, *_ = found[2]
    assert rated.record.prompt == (HI,)
    assert rated.record.tags == {"tone": "rude"}
    first, second = (f"0d6f5a9e-000{n}-4d3a-9a51-7c2f3b8e0001" for n in (1, 2))
    edited = {"role": "assistant", "content": "Hello, how can I help?"}
    assert signals(found[2]) == [
        {"kind": "score", "choice": 0, "score": 2.0, "name": "quality", "by": first},
        {"kind": "thumb", "choice": 0, "label": False, "by": second},
        {"kind": "edit", "choice": 0, "edit": [edited], "by": first},
    ]
    (ranked,) = found[3]  # ranks 2 and 3, 1 and 1, 3 and 2; the third annotator discarded his
    assert [one.score for one in ranked.record.completions] == [-2.5, -1.0, -2.5]


def test_the_older_export_of_argilla():
    row = {
        "fields": {"prompt": "Hi", "response-1": "Hello!", "response-2": "What?"},
        "responses": [
            {"user_id": "u1", "status": "submitted", "values": {"better": {"value": 1}}},
            {"user_id": "u2", "status": "draft", "values": {"better": {"value": 2}}},
        ],
    }
    assert argilla.sniff(row)
    (example,) = argilla.parse(row)
    assert example.verdict == Verdict(0, 1, by="vote", strength=1.0)


def test_label_studio():
    found, rejects = read("label-studio")
    assert rejects == {3: "tie"}
    (three,), (unnamed,) = found[1], found[2]
    assert three.record.prompt == (RENT,)
    assert three.record.completions == (answer(FIVE), answer(NO_IDEA))
    assert three.record.verdict == Verdict(0, 1, by="vote", strength=2 / 3)
    assert three.record.tags == {"desk": "rental"}
    assert three.record.provenance[0].time == "2026-10-09T08:00:00Z"
    assert three.ids == ()  # a task's number is another task's on the next server
    assert (unnamed.record.prompt, unnamed.record.chosen) == ((HI,), answer(HELLO))


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([0], Verdict(0, 1, by="vote", strength=1.0)),
        ([1, 1, 0, None], Verdict(1, 0, by="vote", strength=0.5)),
        ([0, None, None], Verdict(0, 1, by="vote", strength=1 / 3)),
        ([0, 1], "tie"),
        ([None], "tie"),
        ([], "no-feedback"),
    ],
)
def test_majority(votes, expected):
    if isinstance(expected, Verdict):
        assert majority(votes) == expected
        return
    with pytest.raises(RecordError) as caught:
        majority(votes)
    assert caught.value.reason == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"prompt": "p", "answer2": "b", "answer1": "a"}, ["answer1", "answer2"]),
        ({"prompt": "p", "left": "a", "right": "b"}, ["left", "right"]),
        ({"prompt": "p", "response_b": "b", "response_a": "a"}, ["response_a", "response_b"]),
        (
            {"prompt": "p", "first answer": "x", "text left": "a", "text right": "b"},
            ["text left", "text right"],
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, ["chosen", "rejected"]),
        ({"prompt1": "p", "prompt2": "q", "response": "a"}, ["response"]),
        ({"prompt": "p", "output": "a", "output2": ""}, ["output"]),
    ],
)
def test_which_fields_are_answers(task, expected):
    assert answers_of(task) == expected


@pytest.mark.parametrize(
    "task",
    [{"prompt": "p"}, {"a1": "x", "a2": "y", "b1": "x", "b2": "y"}, {"output": "a", "reply": "b"}],
)
def test_answers_are_not_guessed(task):
    with pytest.raises(RecordError) as caught:
        answers_of(task)
    assert caught.value.reason == "missing-field"


def test_a_task_needs_a_prompt():
    with pytest.raises(RecordError, match="answer1, answer2"):
        prompt_of({"answer1": "a", "answer2": "b"})


RECORD = rows("argilla")[0]
TASK = rows("label-studio")[0]


def _responses(*values):
    return {**RECORD, "responses": {"q": [{"value": value} for value in values]}}


@pytest.mark.parametrize(
    ("module", "row", "reason"),
    [
        (argilla, _responses("tie"), "tie"),
        (argilla, _responses("response_1", "response_2"), "tie"),
        (argilla, _responses("whatever"), "no-feedback"),
        (argilla, {**RECORD, "responses": 7}, "wrong-type"),
        (argilla, {**RECORD, "fields": {"prompt": "Hi"}}, "missing-field"),
        (argilla, {**RECORD, "fields": {"prompt": "", "response": "x"}}, "missing-field"),
        (
            argilla,
            {**_responses(1), "fields": {"prompt": "Hi", "answer1": "x", "answer2": "x"}},
            "equal-answers",
        ),
        (
            argilla,
            {**_responses(1), "fields": {"prompt": "Hi", "a1": "x", "a2": "y", "a3": "z"}},
            "unread-feedback",
        ),
        (label_studio, {**TASK, "annotations": []}, "no-feedback"),
        (label_studio, {**TASK, "annotations": None}, "missing-field"),
        (label_studio, {**TASK, "data": {"prompt": "Hi"}}, "missing-field"),
        (
            label_studio,
            {**TASK, "data": {**TASK["data"], "answer1": "Yes, for 5 a day."}},
            "equal-answers",
        ),
        (
            label_studio,
            {**TASK, "annotations": [{"result": [{"type": "pairwise", "value": {"selected": 3}}]}]},
            "unread-feedback",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(module, row, reason):
    with pytest.raises(RecordError) as caught:
        module.parse(row)
    assert caught.value.reason == reason
