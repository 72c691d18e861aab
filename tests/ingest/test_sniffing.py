"""Sniffing: each format is recognised as itself, and what is none of them is explained."""

import json
import os

import pytest
from tests.ingest.fixture_rows import FIXTURES, rows

from palate.ingest import FORMATS, IngestError, otlp, read_arrivals
from palate.ingest.registry import find, no_match, sniff

USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello"}
BAD = {"role": "assistant", "content": "What?"}
GPT = {"from": "gpt", "value": "Hello"}
CHOICES = [{"index": 0, "message": GOOD}]

ROWS = {
    "openai-chat": [
        {"messages": [USER], "choices": CHOICES},
        {"request": {"messages": [USER]}, "response": {"choices": CHOICES}},
        {"body": {"messages": [USER]}, "response": {"body": {"choices": CHOICES}}},
        {"messages": [USER, GOOD], "feedback": "up"},
        {"messages": [USER, GOOD], "metadata": {"rating": "-1"}},
    ],
    "openai-preference": [
        {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    ],
    "llama-factory": [
        {"conversations": [{"from": "human", "value": "Hi"}], "chosen": GPT, "rejected": GPT},
        {"conversations": [{"from": "human", "value": "Hi"}, GPT]},
        {"messages": [USER], "chosen": GOOD, "rejected": BAD},
        {"messages": [USER, GOOD], "label": True},
        {"instruction": "Hi", "input": "", "chosen": "a", "rejected": "b"},
        {"instruction": "Hi", "input": "", "output": "a"},
    ],
    "trl": [
        {"prompt": "Hi", "chosen": "a", "rejected": "b"},
        {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]},
        {"chosen": "The a", "rejected": "The b"},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Hi", "completion": "a", "label": True},
        {"prompt": "Hi", "completion": "a"},
        {"messages": [USER, GOOD]},
    ],
    "text": [
        {"text": "a"},
        {"text": "a", "title": "b", "prompt": None},
    ],
}


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name, rows in ROWS.items() for row in rows]
)
def test_each_row_is_sniffed_as_its_own_format(name, row):
    found = sniff([row])
    assert found is not None
    assert found.name == name


def _all_rows(name):
    for row in rows(name):
        yield from otlp.rows_of(row) if otlp.is_batch(row) else [row]


def test_every_format_has_a_fixture():
    assert {path.stem for path in FIXTURES.glob("*.jsonl")} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_each_fixture_is_sniffed_as_its_own_format_row_by_row(name):
    for row in _all_rows(name):
        found = sniff([row])
        assert found is not None, row
        assert found.name == name, row


# What the sniffers of later formats would take for theirs too: the order decides.
OVERLAPS = {
    "anthropic": {"openai-chat", "trl"},
    "litellm": {"anthropic", "openai-chat", "trl"},
    "llama-factory": {"trl"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_other_format_takes_a_fixture_for_its_own(name):
    others = {
        other
        for row in _all_rows(name)
        for other, known in FORMATS.items()
        if other != name and known.sniff(row)
    }
    assert others == OVERLAPS.get(name, set())
    order = list(FORMATS)
    assert all(order.index(name) < order.index(other) for other in others)


def test_parquet_columns_that_are_null_do_not_count():
    row = {"messages": None, "choices": None, "prompt": "Hi", "completion": "a", "label": None}
    found = sniff([row])
    assert found is not None
    assert found.name == "trl"


def test_the_majority_decides():
    rows = [*ROWS["trl"][:2], ROWS["llama-factory"][0]]
    found = sniff(rows)
    assert found is not None
    assert found.name == "trl"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "a", "answer": "b"},
        {"prompt": "a"},
        {"query": "a", "chosen": "b", "rejected": "c"},
        {"data": {"prompt": "a"}},
        {"input": "a", "output": "b"},
        {"attributes": {"http.method": "GET"}},
        {},
        {"words": "a"},
    ],
)
def test_what_is_no_format_is_not_guessed(row):
    assert sniff([row]) is None


@pytest.mark.parametrize("text", ['{"a": "\\ud83d"}', "[" * 600 + "]" * 600])
def test_hostile_json_within_a_text_fits_no_format(text):
    assert sniff([{"data": text, "meta": text, "attributes": text, "completions": text}]) is None


def test_no_match_says_what_was_seen_and_what_is_closest():
    said = no_match([{"prompt": "a", "good": "b", "bad": "c"}])
    assert "prompt, good, bad" in said
    assert "closest is trl, which looks for prompt, chosen, rejected" in said
    assert all(name in said for name in FORMATS)
    assert "closest" not in no_match([{"words": "a"}])


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(
        IngestError, match="unknown format 'opnai-chat'; did you mean 'openai-chat'"
    ):
        find("opnai-chat")


def test_a_file_that_begins_with_what_is_no_format(tmp_path):
    """A trace of a whole service: the calls of the model come after hundreds of other spans."""
    other = {"name": "GET", "span_id": "40f067aa0ba902b7", "attributes": {"http.method": "GET"}}
    file = tmp_path / "spans.jsonl"
    lines = [json.dumps(other)] * 900 + [json.dumps(row) for row in rows("opentelemetry")]
    file.write_text("\n".join(lines))
    rejects = []
    found = list(read_arrivals(file, on_reject=rejects.append))
    assert len(found) > 1
    assert [r.reason for r in rejects[:900]] == ["no-model-call"] * 900
    assert rejects[0].line == 1
    file.write_text("\n".join([json.dumps(other)] * 1500 + lines[-1:]))
    with pytest.raises(IngestError, match="matches no format: it has the fields name, span_id"):
        list(read_arrivals(file))


def test_a_name_that_is_not_utf_8_is_spelled_out(tmp_path):
    file = tmp_path / os.fsdecode(b"log\xff.jsonl")
    try:
        file.write_text(json.dumps({"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}))
    except OSError:
        pytest.skip("this file system has no such names")
    (arrival,) = read_arrivals(file)
    assert arrival.record.provenance[0].source == f"{tmp_path}/log\\xff.jsonl"
