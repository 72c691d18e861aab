"""Plain text: rows with a text, and text files, each of which is one document."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from palate.ingest import IngestError, read_examples
from palate.ingest.hub import fetch
from palate.ingest.plain_text import parse, sniff
from palate.records import Example, RecordError, Reject


def texts(path: Path | str) -> tuple[list[str], list[Reject]]:
    rejects: list[Reject] = []
    found: list[Example] = list(read_examples(str(path), on_reject=rejects.append))
    for one in found:
        assert one.shape == "text"
        assert one.prompt == ()
        assert one.provenance[0].source
    return [one.completions[0].text for one in found], rejects


@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TXT", "a.txt.gz"])
def test_a_text_file_is_one_document_to_the_letter(tmp_path: Path, name: str) -> None:
    body = '# Title\r\n\n  {"not": "json"}\n\té – 日本\n'
    raw = body.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert texts(tmp_path / name) == ([body], [])


def test_a_folder_of_documents_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "sub/c.txt", ".hidden/d.txt", "e.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert texts(tmp_path)[0] == ["a.txt", "b.md", "sub/c.txt"]


def test_beside_rows_a_readme_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# About this data", encoding="utf-8")
    (tmp_path / "LICENSE.txt").write_text("free", encoding="utf-8")
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    assert texts(tmp_path) == (["a", "b"], [])
    assert texts(tmp_path / "README.md") == (["# About this data"], [])


def test_a_hub_set_of_one_split_is_found_beside_its_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["README.md", "data/notes.txt", "prefs.parquet"]
    monkeypatch.setattr("palate.ingest.hub._list", lambda repo, revision: names)
    monkeypatch.setattr("palate.ingest.hub._download", lambda repo, name, _: tmp_path / name)
    assert [name for name, _ in fetch("hub:acme/prefs")] == ["hub:acme/prefs/prefs.parquet"]
    names[:] = ["README.md", "train/a.txt"]
    assert [name for name, _ in fetch("hub:acme/prose")] == ["hub:acme/prose/train/a.txt"]


def test_rows_with_a_text(tmp_path: Path) -> None:
    rows = [{"text": "one", "lang": "en", "id": 3}, {"text": "two", "label": None}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert texts(path)[0] == ["one", "two"]
    (first,) = parse(rows[0])
    assert first.tags["lang"] == "en"
    assert "text" not in first.tags


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a", "prompt": "b"},
        {"text": "a", "messages": []},
        {"text": "a", "chosen": "b", "rejected": "c"},
        {"text": "a", "label": True},
        {"text": None},
        {"words": "a"},
    ],
)
def test_what_is_more_than_a_text_is_not_taken_for_one(row: dict[str, object]) -> None:
    assert not sniff(row)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (3, "wrong-type"),
        (None, "wrong-type"),
        ("", "empty-answer"),
        (" \n", "empty-answer"),
    ],
)
def test_what_is_no_text_is_refused(text: object, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse({"text": text})
    assert caught.value.reason == reason


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine")
    (tmp_path / "b.txt").write_bytes(b"not \xff fine")
    found, rejects = texts(tmp_path)
    assert found == ["fine"]
    assert [(r.reason, r.line, r.detail) for r in rejects] == [
        ("bad-utf8", 1, "byte 4 of the file is not UTF-8")
    ]
    with pytest.raises(IngestError, match="bad-utf8 1"):
        texts(tmp_path / "b.txt")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfwords")
    assert texts(tmp_path)[0] == ["words"]


def test_two_texts_have_two_prompt_keys() -> None:
    (one,), (other,), (same,) = (parse({"text": text}) for text in ("a", "b", "a"))
    assert one.prompt_key != other.prompt_key
    assert one.prompt_key == same.prompt_key
