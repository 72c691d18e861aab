"""`palate experiments frontier` at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.experiments.listed import LISTED

pytestmark = pytest.mark.slow


def test_a_small_one_and_again(
    palate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("experiments", "frontier", "--reduced", "--seeds", "2", "--only", "best-of-n")
    result = palate(*words)
    assert result.exit_code == 0, result.output
    folder = Path("runs/experiments/frontier-reduced-best-of-n")
    runs = (folder / "runs.jsonl").read_bytes()
    figures = json.loads((folder / "figures.json").read_text())
    assert len(runs.splitlines()) == 1 + 2 * len(figures["points"])
    assert figures["found"]["most_above"] <= 1e-9
    assert "best-of-n n=" in result.output
    again = palate(*words, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == figures
    assert (folder / "runs.jsonl").read_bytes() == runs


def test_what_is_not_there(palate: Any) -> None:
    result = palate("experiments", "frontier", "--only", "dpo,dop")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: nothing here is called dop; there are sft, dpo, ")
    result = palate("experiments", "fronter")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no experiment 'fronter'; there are frontier, ")


def test_each_experiment_says_what_it_asks(palate: Any) -> None:
    result = palate("experiments")
    assert result.exit_code == 0
    assert all(name in result.output for name in LISTED)
    assert json.loads(palate("experiments", "--json").stdout) == LISTED
