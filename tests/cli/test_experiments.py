"""`palate experiments frontier` at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_small_one_and_again(palate: Any) -> None:
    words = ("experiments", "frontier", "--reduced", "--seeds", "2", "--methods", "best-of-n")
    result = palate(*words)
    assert result.exit_code == 0, result.output
    folder = Path("runs/experiments/frontier-reduced-best-of-n")
    runs = (folder / "runs.jsonl").read_bytes()
    figures = json.loads((folder / "figures.json").read_text())
    assert len(runs.splitlines()) == 1 + 2 * len(figures["settings"])
    assert figures["most_above"] <= 1e-9
    assert "best-of-n, true reward" in result.output
    again = palate(*words, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == figures
    assert (folder / "runs.jsonl").read_bytes() == runs


def test_a_method_that_is_not_there(palate: Any) -> None:
    result = palate("experiments", "frontier", "--methods", "dpo,dop")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no such method here: dop; there are sft, dpo, ")
