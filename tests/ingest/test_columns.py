"""Files that are no format: the user says what each column is."""

import json

import pytest
from tests.ingest.fixture_rows import answer

from palate.ingest import IngestError, read_examples
from palate.ingest.registry import find
from palate.records import Message, RecordError, Verdict


def _parse(spec, row):
    (example,) = find(f"columns:{spec}").parse(row)
    return example


def test_a_question_and_an_answer():
    row = {"question": "Hi", "answer": "Hello!", "topic": "greeting"}
    example = _parse("prompt=question,completion=answer", row)
    assert example.prompt == (Message("user", "Hi"),)
    assert example.completions == (answer(Message("assistant", "Hello!")),)
    assert example.tags == {"topic": "greeting"}


def test_solutions_with_labels_in_objects_of_their_own():
    """The shape of GSM8K's model solutions: an object for each model."""
    row = {"q": "1+1?", "small": {"text": "3", "right": False}, "big": {"text": "2", "right": True}}
    spec = "prompt=q,completion=small.text,label=small.right,completion=big.text,label=big.right"
    example = _parse(spec, row)
    assert example.completions == (
        answer(Message("assistant", "3"), source="small", label=False),
        answer(Message("assistant", "2"), source="big", label=True),
    )
    assert example.tags == {}


def test_two_answers_and_three_annotators():
    """The shape of PandaLM's test set: 1 or 2, and 0 for a tie."""
    spec = "prompt=instruction,prompt=input,completion=r1,completion=r2,vote=a,vote=b,vote=c"
    row = {"instruction": "Fix", "input": "teh", "r1": "no", "r2": "the", "a": 2, "b": "2", "c": 0}
    example = _parse(spec, row)
    assert example.prompt == (Message("user", "Fix\nteh"),)
    assert example.verdict == Verdict(1, 0, by="vote", strength=2 / 3)
    assert _parse(spec, {**row, "input": ""}).prompt == (Message("user", "Fix"),)
    for votes, reason in (((1, 2, 0), "tie"), ((0, 0, 0), "tie"), ((3, 1, 1), "unread-feedback")):
        with pytest.raises(RecordError) as caught:
            _parse(spec, {**row, **dict(zip("abc", votes, strict=True))})
        assert caught.value.reason == reason


def test_pairs_scores_systems_times_and_users():
    spec = "prompt=p,system=s,chosen=good,rejected=bad,time=at,user=who"
    row = {"p": "Hi", "s": "Be kind.", "good": "Hello!", "bad": "What?", "at": 0, "who": 7}
    example = _parse(spec, row)
    assert [m.role for m in example.prompt] == ["system", "user"]
    assert example.verdict == Verdict(0, 1)
    known = find(f"columns:{spec}")
    assert (known.time(row), known.user(row)) == ("1970-01-01T00:00:00+00:00", "7")
    scored = _parse("prompt=p,completion=good,score=at,source=s", row)
    assert scored.completions[0] == answer(
        Message("assistant", "Hello!"), score=0.0, source="Be kind."
    )


@pytest.mark.parametrize(
    ("spec", "row", "reason"),
    [
        ("prompt=p,completion=c", {"p": "Hi"}, "missing-field"),
        ("prompt=p,completion=c", {"c": "Hello"}, "missing-field"),
        ("prompt=p,completion=c", {"p": "Hi", "c": ""}, "empty-answer"),
        ("prompt=p,prompt=q,completion=c", {"p": "Hi", "q": 7, "c": "x"}, "wrong-type"),
        ("prompt=p,completion=c,label=l", {"p": "Hi", "c": "x", "l": "maybe"}, "bad-label"),
        ("prompt=p,completion=c,score=s", {"p": "Hi", "c": "x", "s": "high"}, "wrong-type"),
        ("prompt=p,system=s,completion=c", {"p": "Hi", "c": "x", "s": 7}, "wrong-type"),
        ("prompt=p,chosen=a,rejected=b", {"p": "Hi", "a": "x", "b": "x"}, "equal-answers"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(spec, row, reason):
    with pytest.raises(RecordError) as caught:
        _parse(spec, row)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "'' does not say what a column is: write columns:prompt=COLUMN"),
        ("question", "'question' does not say what a column is"),
        ("ask=question", "'ask=question' does not say"),
        ("prompt=q", "name either completions, or chosen and rejected"),
        ("completion=a", "no column is the prompt"),
        ("prompt=q,chosen=a", "name either completions"),
        ("prompt=q,label=a,completion=b", "'label=a' stands before its completion"),
        ("prompt=q,completion=a,vote=v", "votes need two completions"),
    ],
)
def test_a_wrong_description_is_one_line(spec, said):
    with pytest.raises(IngestError, match=said) as caught:
        find(f"columns:{spec}")
    assert "\n" not in str(caught.value)


def test_a_file_that_matches_no_format_says_how(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"frage": "Hi", "antwort": "Hello!"}), encoding="utf-8")
    with pytest.raises(IngestError, match="format columns:prompt=COLUMN,completion=COLUMN"):
        list(read_examples(path))
    spec = "columns:prompt=frage,completion=antwort"
    assert len(list(read_examples(path, format=spec))) == 1


def test_a_text_alone():
    example = _parse("text=full_text", {"full_text": "My name is Ann.", "template": 7})
    assert (example.prompt, example.shape) == ((), "text")
    assert example.completions == (answer(Message("assistant", "My name is Ann.")),)
    assert example.tags == {"template": "7"}
    for row, reason in (({"full_text": 7}, "wrong-type"), ({"full_text": " "}, "empty-answer")):
        with pytest.raises(RecordError) as caught:
            _parse("text=full_text", row)
        assert caught.value.reason == reason
    for spec in ("text=a,prompt=b", "text=a,completion=b", "text=a,chosen=b,rejected=c"):
        with pytest.raises(IngestError, match="a text has no prompt and no answers"):
            find(f"columns:{spec}")
