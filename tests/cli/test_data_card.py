"""`palate data card`: where the page goes, and what it takes from its target."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import PROMPTS, write_pairs

from palate.cli.data_card import run_data_card
from palate.config import DataConfig
from palate.curate import prepare
from palate.store.snapshot import write_snapshot


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    config = DataConfig(path=str(write_pairs(tmp_path / "pairs.jsonl")), heldout=0.2)
    done = prepare(config, 0)
    settings = {"settings": config.model_dump(mode="json")}
    folder = tmp_path / "snap"
    write_snapshot(folder, done.train, done.heldout, done.rejects, done.funnel, extra=settings)
    return folder


def test_a_snapshots_card_goes_beside_it(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in snapshot.iterdir()}
    run_data_card(str(snapshot), licence="MIT")
    place = snapshot.parent / "snap.data-card.html"
    page = place.read_text(encoding="utf-8")
    assert str(place) in capsys.readouterr().err
    manifest = json.loads((snapshot / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["content_hash"] in page
    assert manifest["files"]["train.parquet"] in page
    assert "<dd>MIT</dd>" in page
    assert "data.heldout</th><td>0.2" in page
    assert f"{PROMPTS} pairs: {PROMPTS - 2} to learn from, 2 held out" in page
    assert before == {path: path.read_bytes() for path in snapshot.iterdir()}


def test_a_files_card_goes_where_it_is_told(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    run_data_card(str(path), out=str(tmp_path / "a" / "card.html"), examples=0)
    page = (tmp_path / "a" / "card.html").read_text(encoding="utf-8")
    assert f"<h1>{PROMPTS} pairs</h1>" in page
    assert "Not split yet" in page
    assert "And you?" not in page


def test_without_a_place_a_files_card_goes_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    monkeypatch.chdir(tmp_path)
    run_data_card(str(path))
    assert (tmp_path / "data-card.html").is_file()


def test_a_runs_card_goes_into_its_folder_and_counts_tokens(
    finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "mine")
    run_data_card(str(run), model=str(run / "model"))
    page = (run / "data-card.html").read_text(encoding="utf-8")
    assert "Tokens of model" in page
    assert "data card of <strong>mine</strong>" in page
