"""`palate data show|search|diff|snapshot|export` over stores, files, snapshots, runs, recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from palate.config import DataConfig
from palate.curate.prepare import prepare
from palate.store.database import Store
from palate.store.snapshot import read_snapshot, write_snapshot
from palate.store.sources import open_source

Palate = Callable[..., Result]


def write_rows(path: Path, numbers: range) -> str:
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"Yes, {n}.", "rejected": f"No {n}", "topic": "t"}
        for n in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def snapshot(folder: Path, numbers: range, heldout: float = 0.25) -> str:
    file = write_rows(folder.with_suffix(".jsonl"), numbers)
    found = prepare(DataConfig(path=file, heldout=heldout), 0)
    write_snapshot(folder, found.train, found.heldout, found.rejects, found.funnel)
    return str(folder)


@pytest.fixture
def stored(palate: Palate, tmp_path: Path) -> str:
    log = [
        {
            "id": f"chatcmpl-9xKq{n:04}",
            "messages": [{"role": "user", "content": f"Question {n // 2}?"}],
            "choices": [{"message": {"role": "assistant", "content": f"Answer {n}."}}],
            "feedback": "up" if n % 2 else "down",
        }
        for n in range(8)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    place = str(tmp_path / "palate.db")
    assert palate("import", tmp_path / "log.jsonl", "--db", place).exit_code == 0
    return place


def test_a_store_is_shown_searched_and_looked_into(palate: Palate, stored: str) -> None:
    body = json.loads(palate("data", "show", stored, "--json").stdout)
    assert body["counts"] == {"interactions": 8, "erased": 0, "thumb": 8}
    assert [source["rows"] for source in body["sources"]] == [8]
    assert "interactions  8" in palate("data", "show", stored).stderr

    lines = palate("data", "search", stored, "ANSWER 3.").stdout.splitlines()
    assert len(lines) == 1
    key, text = lines[0].split(maxsplit=1)
    assert text == "Question 1? | Answer 3."
    shown = palate("data", "show", stored, key).stdout.splitlines()
    assert "[user] Question 1?" in shown
    assert "[assistant] Answer 3." in shown
    assert 'thumb: {"choice": 0, "label": true}' in shown
    one = json.loads(palate("data", "show", stored, "openai:chatcmpl-9xKq0003", "--json").stdout)
    assert one["id"].startswith(key)
    assert one["signals"] == [{"kind": "thumb", "choice": 0, "label": True}]
    assert palate("data", "search", stored, "nowhere").stderr.startswith("nothing in")


def test_pairs_come_out_of_a_store(palate: Palate, stored: str, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    result = palate("data", "export", stored, "--to", "trl", "--out", out)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    answers = {tuple(row[side][-1]["content"] for side in ("chosen", "rejected")) for row in rows}
    assert answers == {(f"Answer {n}.", f"Answer {n - 1}.") for n in (1, 3, 5, 7)}
    labelled = tmp_path / "labelled.jsonl"
    words = ("--shape", "labelled", "--out", labelled)
    assert palate("data", "export", stored, "--to", "trl", *words).exit_code == 0
    assert len(labelled.read_text().splitlines()) == 8


def test_a_snapshot_is_shown(palate: Palate, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "one", range(8))
    body = json.loads(palate("data", "show", folder, "--json").stdout)
    assert (body["train"], body["held-out"], body["shapes"]) == ("6", "2", "8 pair")
    assert body["content hash"] == read_snapshot(folder).manifest.content_hash
    example = read_snapshot(folder).heldout[0]
    text = palate("data", "show", folder, example.id[:8]).stdout
    assert "--- answer 0, better, by file" in text
    assert "tags: topic=t" in text
    result = palate("data", "show", folder, "zzz")
    assert result.exit_code == 2
    assert "no example begins with 'zzz'" in result.stderr
    assert "several examples begin" in palate("data", "show", folder, "").stderr
    assert (
        len(palate("data", "search", folder, "question", "--limit", "3").stdout.splitlines()) == 3
    )


def test_what_differs_between_two_snapshots(palate: Palate, tmp_path: Path) -> None:
    one = snapshot(tmp_path / "one", range(8), heldout=0)
    two = snapshot(tmp_path / "two", range(2, 9), heldout=0.3)
    held = {example.id for example in read_snapshot(two).heldout}
    old = {example.id for example in read_snapshot(one).train}
    body = json.loads(palate("data", "diff", one, two, "--json").stdout)
    asked = [row["prompt"][0]["content"] for row in body["removed"]]
    assert asked == ["Question 0?", "Question 1?"]
    assert [row["prompt"][0]["content"] for row in body["added"]] == ["Question 8?"]
    assert body["moved"] == sorted(held & old)
    text = palate("data", "diff", one, two)
    assert "+ " in text.stdout
    assert f"the same {6 - len(held & old)}" in " ".join(text.stderr.split())
    assert "nothing differs" in palate("data", "diff", one, one).stdout


def test_files_are_looked_at_as_they_are(palate: Palate, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", range(3))
    body = json.loads(palate("data", "show", file, "--json").stdout)
    assert (body["train"], body["shapes"]) == ("3", "3 pair")


def test_a_run_is_looked_at_by_its_folder(palate: Palate, finished_run: Path) -> None:
    body = json.loads(palate("data", "show", finished_run, "--json").stdout)
    assert body["shapes"] == "12 pair"


def test_a_recipe_is_prepared_and_frozen(
    palate: Palate, tmp_path: Path, tiny_model_folder: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    data = {"path": write_rows(tmp_path / "rows.jsonl", range(8)), "heldout": 0.25}
    body: dict[str, Any] = {"name": "desk", "model": str(tiny_model_folder), "data": data}
    recipe.write_text(yaml.safe_dump(body))
    out = tmp_path / "snap"
    result = palate("data", "snapshot", recipe, "data.heldout=0.5", "--out", out)
    assert result.exit_code == 0, result.output
    found = read_snapshot(out)
    assert (len(found.train), len(found.heldout)) == (4, 4)
    assert found.manifest.extra["settings"]["heldout"] == 0.5
    assert found.manifest.content_hash in result.stderr
    again = palate("data", "snapshot", recipe, "--out", out)
    assert again.exit_code == 2
    assert "snapshots are never written over" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing"], "there is no nothing: name a snapshot's folder"),
        (["show", "absent.db"], "there is no store absent.db"),
        (["snapshot", "rows.jsonl"], "is not a recipe: a snapshot is made of one"),
        (["snapshot", "rows.jsonl", "seed=1"], "settings are for recipes"),
        (["export", "rows.jsonl", "--to", "trl", "--out", "x", "--side", "x"], "--side is train"),
        (["export", "rows.jsonl", "--to", "xls", "--out", "x.jsonl"], "xls"),
    ],
)
def test_a_mistake_is_one_line_and_2(
    palate: Palate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", range(3))
    result = palate("data", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_sources_say_what_became_of_them(palate: Palate, stored: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert palate("import", tmp_path / "empty.jsonl", "--db", stored).exit_code == 2
    with Store.open(stored) as store:
        store.add([], "capture")
        open_source(store, "cut.jsonl", "0" * 64)
    shown = palate("data", "show", stored).stderr
    assert shown.count(", nothing usable") == 1
    assert shown.count("not finished") == 1
    assert shown.count("since 2") == 1


@pytest.mark.parametrize("words", [["data", "show", "STORE", "ID"], ["methods"], ["--help"]])
def test_a_reader_that_has_gone_ends_a_command_quietly(stored: str, words: list[str]) -> None:
    """As `palate … | head` does, with the status that shells give an end by SIGPIPE."""
    command = [stored if word == "STORE" else word for word in words]
    if "ID" in command:
        command[-1] = "openai:chatcmpl-9xKq0001"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "palate.cli", *command],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
