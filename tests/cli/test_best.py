"""`palate best-of`: answers on disk, figures on the screen, the same again with the same seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny import save_tiny
from typer.testing import Result

Palate = Callable[..., Result]


def test_the_command(tmp_path: Path, palate: Palate) -> None:
    model = save_tiny(tmp_path / "model")
    asked = tmp_path / "prompts.txt"
    asked.write_text("Say one\nSay two\n", encoding="utf-8")
    rule = tmp_path / "rules.py"
    rule.write_text("def short(prompt, text):\n    return 1 / (1 + len(text))\n", encoding="utf-8")
    out, both = tmp_path / "best.jsonl", tmp_path / "pairs.jsonl"
    words = ["best-of", str(asked), "max_new_tokens=6", "-m", str(model), "-n", "4"]
    words += ["--judge", f"{rule}:short", "-o", str(out), f"pairs={both}", "--json"]
    result = palate(*words)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["prompts"], told["n"], told["failed"]) == (2, 4, 0)
    assert told["best"] > told["one"]
    assert told["bound"] == pytest.approx(math.log(4) - 0.75)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"][0]["content"] for row in rows] == ["Say one", "Say two"]
    first = out.read_bytes()
    assert palate(*words).exit_code == 0
    assert out.read_bytes() == first, "the same seed draws the same answers"
    refused = palate(*("nothing.py:good" if word == f"{rule}:short" else word for word in words))
    assert refused.exit_code == 2
    assert "there is no file nothing.py" in refused.stderr
