"""The GPU benchmark, on a CPU with a tiny shape: it must be ready where a GPU is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_it_measures_every_combination_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [
        *(sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu"),
        *("--shapes", "tiny", "--workloads", "tiny", "--compile", "off", "--precision", "fp32"),
        *("--budget", "40", "--steps", "2", "--out", str(out)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "attention, tiny: tiled (the only one on cpu)" in done.stdout
    body = json.loads(out.read_text())
    assert body["machine"]
    assert [run["adapter"] for run in body["runs"]] == ["full", "lora"]
    for run in body["runs"]:
        assert run["attention"] == "tiled"
        assert run["seconds"] > 0
        # three pairs a step; what is shared are the system prompt of 8 and each pair's prompt
        assert run["pairs_per_second"] == pytest.approx(3 / run["seconds"])
        assert 1.3 < run["sharing"] < 3
        assert 0 < run["fraction"] < 1
        assert run["loss"] > 0


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "use --device cpu with a small shape" in done.stderr
