"""A real run, started from the form; and what the pages and training agree on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import write_pairs
from tests.ui.runs.test_processes import until

from palate.train import folder as run_folder
from palate.ui.runs import states
from palate.ui.runs.alive import Known, send
from palate.ui.runs.processes import Processes

LONG = 100_000
STARTS = """
import json, sys, time
from pathlib import Path
from palate.ui.runs.form import read
from palate.ui.runs.processes import Processes
runs = Path(sys.argv[1])
found = read(json.loads(sys.argv[2]), str(runs))
assert found.config is not None, found.errors
Processes(runs).start("desk", found.text, found.config)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "runs"
    yield place
    for path in (place / ".processes").glob("*.json"):
        raw = json.loads(path.read_text())
        send(Known(raw["pid"], raw["born"]), signal.SIGKILL, group=True)


@pytest.mark.slow
def test_a_real_run_outlives_its_site_is_stopped_and_resumed(
    runs: Path, tmp_path: Path, model: Path
) -> None:
    fields = {
        "name": "desk",
        "model.path": str(model),
        "data.path": str(write_pairs(tmp_path / "pairs.jsonl")),
        "data.heldout": "0.2",
        "adapter.rank": "4",
        "train.batch_size": "4",
        "train.epochs": str(LONG),
        "train.max_steps": str(LONG),
        "train.precision": "fp32",
        "train.eval_every": "0",
        "train.save_every": "0",
        "evaluate.samples": "0",
    }
    site = subprocess.Popen(
        [sys.executable, "-c", STARTS, str(runs), json.dumps(fields)], stdout=subprocess.PIPE
    )
    assert site.stdout is not None
    assert site.stdout.readline() == b"started\n"
    site.kill()
    site.wait()
    site.stdout.close()

    later = Processes(runs)
    assert later.state("desk").stop
    metrics = runs / "desk" / "metrics.jsonl"
    until(lambda: metrics.is_file() and metrics.read_text().count("\n") >= 2, "two steps")
    assert later.state("desk").word == "running"
    later.stop("desk")
    until(lambda: later.state("desk").word == "stopped", "the stop")
    steps = _steps(metrics)
    assert steps < LONG
    assert "Continue with:" in later.log("desk").read_text()

    config = runs / "desk" / "config.yaml"
    config.write_text(config.read_text().replace(f"max_steps: {LONG}", f"max_steps: {steps + 2}"))
    later.resume("desk")
    until(lambda: later.state("desk").word == "complete", "the rest")
    assert _steps(metrics) == steps + 2
    assert (runs / "desk" / "model").is_dir()


def _steps(metrics: Path) -> int:
    return max(json.loads(line)["step"] for line in metrics.read_text().splitlines())


@pytest.mark.slow
def test_a_recipe_that_training_refuses_is_told_in_its_own_words(
    runs: Path, tmp_path: Path, model: Path
) -> None:
    from palate.ui.runs.form import read

    rows = tmp_path / "bad.jsonl"
    rows.write_text("{\n")
    found = read({"name": "desk", "model.path": str(model), "data.path": str(rows)}, str(runs))
    assert found.config is not None
    site = Processes(runs)
    site.start("desk", found.text, found.config)
    until(lambda: site.state("desk").word == "refused", "the refusal")
    state = site.state("desk")
    assert state.error.startswith(f"no usable row in {rows}: broken-json 1")
    assert not state.resume


def test_to_look_for_a_trainer_is_never_in_a_trainers_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is shared for an instant; the trainer tries again."""
    looking = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(run_folder.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
    os.close(run_folder._lock(tmp_path))
    os.close(looking)


def test_what_an_attempt_leaves_is_what_training_says() -> None:
    assert states.BEGINNINGS == run_folder._BEGINNINGS
