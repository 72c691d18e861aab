"""The round trip of the support desk's script, on the tiny world: every step of the loop once."""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.measure import worlds

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "support_desk" / "round_trip.py"


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("round_trip", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


RECIPE = """
model: set-by-the-script
data: {path: set-by-the-script, split_by: prompt, heldout: 0.3}
method: {name: dpo, beta: 0.3}
adapter: {kind: full}
optim: {lr: 1.0e-3}
train: {batch_size: 8, max_steps: 20, epochs: 100, eval_every: 0, precision: fp32}
evaluate:
  samples: 0
  answers: 72
  max_new_tokens: 40
  temperature: 1.0
  demonstrations: none
  instructions: none
  safety: none
gate: {perplexity_rise: null, instructions_drop: null, overrefusal_rise: null}
"""


def test_a_second_round_that_is_worse_says_what_it_fails(tmp_path: Path) -> None:
    """18 of 100 answers failed by length, and then 42; copying went down: length is named."""
    script = load_script()
    args = script._arguments().parse_args(["--out", str(tmp_path)])
    trip = script.Trip(args)
    first = {"rule": 0.58, "words": 36.2, "rule_failed": {"length": 0.18, "copied": 0.1}}
    second = {
        "rule": 0.45,
        "rule_interval": [0.34, 0.57],
        "words": 16.3,
        "rule_failed": {"length": 0.42, "copied": 0.01},
        "passed": False,
        "failed": ["length_change"],
    }
    trip.found = {"round-1": first, "round-2": second}
    said = trip.verdict()
    assert "worse (length fails in 18% and then in 42%" in said
    assert "from 36 to 16 words" in said
    assert "keeps it in (length_change)" in said
    second.update(rule=0.7, rule_interval=[0.6, 0.8], passed=True)
    assert "better, and the gate lets it out" in trip.verdict()


@pytest.mark.slow
def test_from_traffic_to_a_second_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    base = worlds.make_base(tmp_path)
    log = worlds.write_pairs(tmp_path / "log.jsonl", worlds.better)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    home = tmp_path / "trip"
    words = [
        *("--out", str(home), "--model", str(base / "model"), "--traffic", log),
        *("--recipe", str(recipe), "--rule", f"{tmp_path / 'letters.py'}:letters"),
        *("--to", "merged", "--customers", "20", "--answers", "3", "--max-tokens", "40"),
        *("--port", str(free_port())),
    ]
    found = load_script().main(words)
    assert found["round-1"]["passed"] is True
    assert found["round-1"]["rule"] > found["round-1"]["base_rule"]
    served = found["served"]
    assert served["rule"] > found["round-1"]["base_rule"], "what is served is what was trained"
    thumbs = found["feedback"]
    assert thumbs["up"] + thumbs["down"] == thumbs["stored"] == 60
    assert found["round-2"]["pairs"] > found["round-1"]["pairs"], "the feedback became pairs"
    second = found["round-2"]
    assert ("lets it out" in found["verdict"]) is second["passed"]
    assert all(name in found["verdict"] for name in second["failed"])
    assert json.loads((home / "round-trip.json").read_text(encoding="utf-8")) == found
