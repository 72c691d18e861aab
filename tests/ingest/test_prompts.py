from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.ingest import IngestError
from palate.ingest.prompts import read_prompts
from palate.records import Example, Message, Reject


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def said(examples: list[Example]) -> list[list[str]]:
    return [[m.content for m in example.prompt] for example in examples]


def test_rows_with_a_prompt_alone(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl",
        {"prompt": "one", "topic": "t"},
        {"prompt": [{"role": "user", "content": "two"}], "system": "S"},
        {"prompt": "one"},
        {"prompt": " "},
        {"prompt": [{"role": "assistant", "content": "no user"}]},
    )
    rejects: list[Reject] = []
    found = read_prompts(path, on_reject=rejects.append)
    assert said(found) == [["one"], ["S", "two"]]
    assert found[0].tags == {"topic": "t"}
    assert [one.line for one in rejects] == [4, 5]


def test_lines_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one\n\n  two \none\n", encoding="utf-8")
    assert said(read_prompts(path)) == [["one"], ["two"]]


def test_the_answers_of_equal_prompts_come_along_once_each(tmp_path: Path) -> None:
    def row(text: str) -> dict[str, Any]:
        return {"prompt": "p", "completion": text}

    (found,) = read_prompts(written(tmp_path / "p.jsonl", row("a"), row("b"), row("a ")))
    assert found.prompt == (Message("user", "p"),)
    assert [c.text for c in found.completions] == ["a", "b"]
    assert found.verdict is None


def test_no_prompt_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\n")
    with pytest.raises(IngestError, match="no prompt in"):
        read_prompts(path)
    with pytest.raises(IngestError, match="there is no file"):
        read_prompts(tmp_path / "absent.jsonl")
