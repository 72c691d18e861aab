"""`palate import`: the summary, the list of refused rows, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from palate.cli.importing import estimated_rows

Palate = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "id": f"chatcmpl-{n}",
            "model": "m",
            "messages": [{"role": "user", "content": f"Question {n}?"}],
            "choices": [{"message": {"role": "assistant", "content": f"Answer {n}."}}],
            "feedback": "up" if n % 2 else None,
        }
        for n in range(6)
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, "{broken", "[1]"]) + "\n")
    return tmp_path


def test_the_summary(palate: Palate, home: Path) -> None:
    result = palate("import", "log.jsonl")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert "rows read 8 3 demonstration, 3 labelled" in lines
    assert "interactions 6 new; 0 were there already" in lines
    assert "events 3 3 thumb" in lines
    assert any(line.startswith("refused: not-an-object 1 first at log.jsonl:8") for line in lines)
    assert "list every refused row with --rejects FILE" in lines
    assert "next: palate data show palate.db" in lines
    assert (home / "palate.db").is_file()

    result = palate("import", "log.jsonl", "--db", "palate.db")
    assert result.exit_code == 0
    assert "log.jsonl: imported before, nothing added" in result.stderr


def test_json_and_the_list_of_refused_rows(palate: Palate, home: Path) -> None:
    result = palate("import", "log.jsonl", "--json", "--rejects", "refused.jsonl")
    body = json.loads(result.stdout)
    assert (body["rows"], body["files"], body["skipped"]) == (8, 1, [])
    assert body["added"] == {"new": 6, "known": 0, "erased": 0, "events": 3, "waiting": 0}
    assert body["rejected"] == {"broken-json": 1, "not-an-object": 1}
    refused = [json.loads(line) for line in (home / "refused.jsonl").read_text().splitlines()]
    assert [(row["line"], row["reason"], row["excerpt"]) for row in refused] == [
        (7, "broken-json", "{broken"),
        (8, "not-an-object", "[1]"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.jsonl"], "error: there is no file none.jsonl"),
        (["log.jsonl", "--format", "opnai"], "error: unknown format 'opnai'"),
        (["log.jsonl", "--db", "no/where.db"], "error: the folder no of the store is not there"),
        (
            ["log.jsonl", "--db", "log.jsonl"],
            "error: the store log.jsonl failed: file is not a database",
        ),
        (["log.jsonl", "--rejects", "no/list"], "error: No such file or directory (no/list)"),
    ],
)
def test_a_mistake_is_one_line_and_2(palate: Palate, words: list[str], said: str) -> None:
    result = palate("import", *words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(said)


def test_the_bars_end_is_estimated_from_the_first_rows(home: Path) -> None:
    assert estimated_rows(["log.jsonl"]) == 8
    row = json.dumps({"text": "x" * 85}) + "\n"
    (home / "many.jsonl").write_text(row * 5000)
    assert estimated_rows([str(home / "many.jsonl")]) == pytest.approx(5000, rel=0.05)
