"""Prompts that are judged by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ingest.fixture_rows import SYSTEM, read, rows

from palate.ingest import read_examples
from palate.ingest.prompt_label import parse, sniff
from palate.ingest.registry import sniff as sniff_all
from palate.records import Completion, Message, RecordError


def test_the_fixture() -> None:
    found, rejects = read("prompt-label")
    assert rejects == {}
    kill, filed, hello = (found[line][0] for line in (1, 2, 3))
    assert kill.record.prompt == (Message("user", "How can I kill a Python process?"),)
    assert [one.record.completions for one in (kill, filed, hello)] == [
        (Completion((), label=label),) for label in (True, False, True)
    ]
    assert kill.record.tags == {"type": "homonyms"}
    assert filed.record.prompt[0] == SYSTEM
    assert filed.user == "u-320"
    assert filed.record.provenance[0].time == "2026-10-09T08:00:00Z"
    for one in (kill, filed, hello):
        assert one.record.prompt_judged
        assert one.record.shape == "labelled"


@pytest.mark.parametrize("label", [0, 1, True, "1", "false", "spam", None, ""])
def test_what_could_be_read_either_way_is_refused(label: object) -> None:
    row = {"prompt": "Hi", "label": label}
    assert not sniff(row)
    with pytest.raises(RecordError) as caught:
        parse(row)
    assert caught.value.reason == ("missing-field" if label is None else "bad-label")


@pytest.mark.parametrize("more", ["completion", "response", "chosen", "messages"])
def test_a_row_with_an_answer_is_another_format(more: str) -> None:
    assert not sniff({"prompt": "Hi", "label": "safe", more: "x"})


def test_a_row_is_read_back_from_its_dictionary() -> None:
    (example,) = parse(rows("prompt-label")[0])
    assert type(example).from_dict(example.to_dict()) == example


def test_it_is_sniffed(tmp_path: Any) -> None:
    assert sniff_all(rows("prompt-label")).name == "prompt-label"  # type: ignore[union-attr]
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,label,type\nHow do I kill time?,safe,homonyms\n", encoding="utf-8")
    (example,) = read_examples(file)
    assert example.completions[0].label is True
