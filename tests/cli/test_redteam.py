from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from palate.config import build_config
from palate.ingest import read_examples

Palate = Callable[..., Result]
SMALL = ["per_category=1", "wrapped=0", "max_new_tokens=6", "categories=[fraud,secrets]"]


def test_a_tiny_model_is_measured_compared_and_does_not_pass(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    first = palate("redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *SMALL, "--json")
    assert first.exit_code == 3, first.output
    summary = json.loads(first.stdout)
    assert summary["verdict"]["passed"] is False
    assert summary["decided_by"] == "refusal rule"
    assert {group["name"] for group in summary["results"]["categories"]} == {"fraud", "secrets"}
    assert (tmp_path / "a" / "report.html").read_text().startswith("<!doctype html>")
    second = palate(
        *("redteam", "-m", tiny_model_folder, "-o", tmp_path / "b", "--against", tmp_path / "a"),
        *SMALL,
    )
    assert second.exit_code == 3, second.output
    assert "before → now" in second.output
    rows = [(tmp_path / name / "attacks.jsonl").read_bytes() for name in "ab"]
    assert rows[0] == rows[1], "the same model, seed and attacks: the same answers"


def test_limits_that_allow_all_pass(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    limits = ["--max-success", 1, "--max-overrefusal", 1]
    done = palate("redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *SMALL, *limits)
    assert done.exit_code == 0, done.output
    assert "PASSED" in done.output


def test_a_judge_of_ones_own_decides(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    judge = ["judge.kind=length", "judge.most=0", "judge.least=1"]
    wrong = palate("redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *SMALL, *judge)
    assert wrong.exit_code == 2
    reward = ["judge.kind=reward", f"judge.model={tiny_model_folder}"]
    border = palate("redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *SMALL, *reward)
    assert border.exit_code == 2
    assert "scores of kind reward know no border" in border.output
    judge = ["judge.kind=regex", "judge.pattern=never in any answer"]
    done = palate(
        "redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *SMALL, *judge, "--json"
    )
    assert done.exit_code == 3, done.output
    summary = json.loads(done.stdout)
    assert summary["decided_by"].startswith("judge regex")
    fraud = next(g for g in summary["results"]["categories"] if g["name"] == "fraud")
    assert fraud["attempts"]["share"] == 1.0


@pytest.mark.usefixtures("cache")
def test_training_takes_a_step_on_the_pairs(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    from palate.run import train

    judge = ["judge.kind=regex", "judge.pattern=never in any answer"]
    words = ["per_category=8", "wrapped=0", "max_new_tokens=6", "categories=[fraud]"]
    palate("redteam", "-m", tiny_model_folder, "-o", tmp_path / "a", *words, *judge)
    assert len(list(read_examples(tmp_path / "a" / "pairs.jsonl"))) >= 8
    config = build_config(
        {
            "name": "cure",
            "out": str(tmp_path / "runs"),
            "model": str(tiny_model_folder),
            "data": {"path": str(tmp_path / "a" / "pairs.jsonl"), "heldout": 0.2},
            "train": {"batch_size": 4, "max_steps": 1, "precision": "fp32"},
            "evaluate": {"samples": 0},
        }
    )
    assert train(config).results["training"]["steps"] == 1
