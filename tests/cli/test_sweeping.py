"""`palate sweep`: a stand-in for training for the logic, and one real grid with kill and resume."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import write_pairs
from typer.testing import Result

from palate.cli import sweeping
from palate.cli.stop import Stopped
from palate.config import ConfigError
from palate.durable import hold, verify_folder
from palate.sweep import Cell
from palate.train.metrics import read_metrics

Palate = Callable[..., Result]
FOLDER = Path("runs/desk-sweep")

STAND_IN = """
import fcntl, json, os, pathlib, signal, sys, time
folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
lock = open(folder / ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
config = (folder / "config.yaml").read_text()
say = lambda *words: (out / "events").open("a").write(" ".join(map(str, words)) + "\\n")
say("begin", folder.name, os.environ.get("OMP_NUM_THREADS", "-"))
asked = []
def ask(*_):
    asked.append(1)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, ask)
if (out / "fail").exists() and folder.name in (out / "fail").read_text():
    print("step 1\\nerror: this one is broken\\nlater words", file=sys.stderr)
    sys.exit(2)
if (out / "killed").exists() and folder.name in (out / "killed").read_text():
    os.kill(os.getpid(), signal.SIGKILL)
end = time.monotonic() + (60 if (out / "slow").exists() else 0.3)
while time.monotonic() < end and not asked:
    time.sleep(0.02)
if asked:
    say("stopped", folder.name, len(asked))
    sys.exit(130)
seed = float(folder.name.rpartition("=")[2])
(folder / "results.json").write_text(json.dumps({
    "heldout": {"accuracy": seed / 10, "margin": 1.0, "accuracy_interval": [0, 1]},
    "comparison": {"kl": seed, "kl_error": 0.1, "before": {"share": 0.2},
                   "after": {"share": 0.5, "interval": [0.4, 0.6], "tokens": 9.0}},
    "training": {"seconds": 3.0}}))
say("end", folder.name)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    body = {"name": "desk", "model": "m", "data": "pairs.jsonl", "method": "dpo"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(body))
    (tmp_path / "child.py").write_text(STAND_IN)
    return tmp_path


@pytest.fixture
def stand_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(cell: Cell) -> list[str]:
        return [sys.executable, str(home / "child.py"), str(cell.folder), str(home)]

    monkeypatch.setattr(sweeping, "train_command", command)
    monkeypatch.setattr(sweeping, "check_methods", lambda sweep: None)


def events(home: Path, word: str) -> list[str]:
    path = home / "events"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == word]


@pytest.mark.usefixtures("stand_in")
def test_a_grid_its_table_and_nothing_twice(palate: Palate, home: Path) -> None:
    result = palate("sweep", "recipe.yaml", "method.beta=0.1,0.2", "seed=1,2", "--json")
    assert result.exit_code == 0, result.output
    four = ["beta=0.1,seed=1", "beta=0.1,seed=2", "beta=0.2,seed=1", "beta=0.2,seed=2"]
    assert events(home, "begin") == events(home, "end") == four
    assert "2 method.beta × 2 seed = 4 runs in runs/desk-sweep" in result.stderr
    # Seeds 1 and 2 have 0.1 and 0.2: mean 0.15, t(1) = 12.7, so the interval is 0.15 ± 0.64.
    assert "15% [0%, 79%]" in result.stderr
    assert len(json.loads(result.stdout)["cells"]) == 4
    lines = list(csv.DictReader((FOLDER / "results.csv").open()))
    assert [line["cell"] for line in lines] == four
    assert [line["kl"] for line in lines] == ["1.0", "2.0", "1.0", "2.0"]
    assert (FOLDER / "sweep.html").is_file()
    assert (FOLDER / "reward-kl.svg").is_file()
    assert yaml.safe_load((FOLDER / four[1] / "config.yaml").read_text())["seed"] == 2

    again = palate("sweep", "recipe.yaml", "method.beta=0.1,0.2", "seed=1,2,3")
    assert again.exit_code == 0, again.output
    assert events(home, "begin")[4:] == ["beta=0.1,seed=3", "beta=0.2,seed=3"]
    assert "6 runs in runs/desk-sweep, 4 of them complete already" in again.stderr
    assert palate("sweep", "recipe.yaml", "method.beta=0.1,0.2", "seed=1,2,3").exit_code == 0
    assert len(events(home, "begin")) == 6


@pytest.mark.usefixtures("stand_in")
def test_a_cell_that_fails_does_not_stop_the_others(palate: Palate, home: Path) -> None:
    (home / "fail").write_text("seed=2")
    (home / "killed").write_text("seed=3")
    result = palate("sweep", "recipe.yaml", "seed=1,2,3,4")
    assert result.exit_code == 1, result.output
    assert events(home, "end") == ["seed=1", "seed=4"]
    last = result.stderr.splitlines()[-5:]
    assert last == [
        "2 of 4 runs failed:",
        "  seed=2: this one is broken",
        "  seed=3: killed by SIGKILL, perhaps for want of memory",
        "To try these again:",
        "  palate sweep recipe.yaml seed=1,2,3,4",
    ]
    assert "later words" in (FOLDER / "logs" / "seed=2.log").read_text()
    (home / "fail").unlink()
    (home / "killed").unlink()
    assert palate("sweep", "recipe.yaml", "seed=1,2,3,4").exit_code == 0
    assert events(home, "end") == ["seed=1", "seed=4", "seed=2", "seed=3"]


@pytest.mark.usefixtures("stand_in")
def test_some_at_once_and_no_more(palate: Palate, home: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("palate.machine.cores", lambda: 6)
    result = palate("sweep", "recipe.yaml", "seed=1,2,3,4,5", "--jobs", "2")
    assert result.exit_code == 0, result.output
    going = most = 0
    lines = (home / "events").read_text().splitlines()
    for line in lines:
        going += 1 if line.startswith("begin") else -1
        most = max(most, going)
    assert most == 2
    assert {line.split()[2] for line in lines if line.startswith("begin")} == {"3"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sweeping.environment(2)["OMP_NUM_THREADS"] == "1"


def _start(home: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep of stand-ins in a process of its own."""
    code = f"""
    import sys
    from palate.cli import sweeping
    from palate.cli.main import main
    home = {str(home)!r}
    sweeping.train_command = lambda cell: [
        sys.executable, home + "/child.py", str(cell.folder), home]
    sys.argv = ["palate", "sweep", "recipe.yaml", *{list(words)!r}]
    main()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a shell does: what a terminal signals is this group
    )


def _wait(home: Path, word: str, count: int, process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if len(events(home, word)) >= count:
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.02)
    if process is not None:
        process.kill()
        raise AssertionError(process.communicate())
    raise AssertionError(word)


def test_ctrl_c_reaches_what_is_going_once_and_nothing_else_begins(home: Path) -> None:
    (home / "slow").touch()
    process = _start(home, "seed=1,2,3", "--jobs=2")
    _wait(home, "begin", 2, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "stopped; 0 of 3 runs are complete, and what was going is saved." in err
    assert err.splitlines()[-1] == "  palate sweep recipe.yaml seed=1,2,3 --jobs 2"
    stops = [line for line in (home / "events").read_text().splitlines() if "stopped" in line]
    assert sorted(stops) == ["stopped seed=1 1", "stopped seed=2 1"]
    assert len(events(home, "begin")) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_sweep_leaves_nothing_running(home: Path) -> None:
    (home / "slow").touch()
    process = _start(home, "seed=1,2")
    _wait(home, "begin", 1, process)
    process.kill()
    process.communicate(timeout=60)
    _wait(home, "stopped", 1)
    (home / "slow").unlink()
    done = _start(home, "seed=1,2")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert events(home, "end") == ["seed=1", "seed=2"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_a_sweep_killed_while_it_checks_leaves_nothing_running(home: Path) -> None:
    """Its pipes are closed: whoever it left would hold them, and this would wait for ever."""
    process = _start(home, "seed=1,2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while time.monotonic() < end and not children.read_text().split():
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=120)


@pytest.mark.usefixtures("stand_in")
def test_one_sweep_at_a_time(palate: Palate, home: Path) -> None:
    FOLDER.mkdir(parents=True)
    lock = hold(FOLDER / ".lock")
    assert lock is not None
    result = palate("sweep", "recipe.yaml", "seed=1,2")
    os.close(lock)
    assert result.exit_code == 2
    assert result.stderr == f"error: another sweep is running in {FOLDER}: wait for it\n"
    assert events(home, "begin") == []


def test_a_run_that_is_still_saving_is_waited_for(home: Path) -> None:
    folder = FOLDER / "seed=1"
    folder.mkdir(parents=True)
    lock = hold(folder / ".lock")
    assert lock is not None
    process = _start(home, "seed=1,2")
    _wait(home, "end", 1, process)
    assert events(home, "end") == ["seed=2"]
    os.close(lock)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"waiting for the process that trains in {folder}" in err
    assert events(home, "end") == ["seed=2", "seed=1"]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], "nothing to sweep"),
        (["seed=1,"], "empty value"),
        (["train.epoch=1,2"], "unknown key 'train.epoch'; did you mean 'epochs'"),
        (["seed=1,2", "out=/proc/none"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line_and_2(
    palate: Palate, home: Path, words: list[str], said: str
) -> None:
    result = palate("sweep", "recipe.yaml", *words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr
    assert events(home, "begin") == []


def test_the_parent_stays_light(home: Path) -> None:
    """A whole sweep, plot included, in a process that never imports torch."""
    code = f"""
    import sys
    from palate.cli import sweeping
    sweeping.train_command = lambda cell: [
        sys.executable, {str(home / "child.py")!r}, str(cell.folder), {str(home)!r}]
    sweeping.run_sweep("recipe.yaml", ["seed=1,2"], jobs=1, as_json=False)
    print(sorted({{"torch", "transformers", "peft"}} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_command_of_a_cell_finds_a_folder_with_spaces() -> None:
    from palate.config import apply_overrides, build_config

    config = build_config({"model": "m", "data": "d", "out": "my runs", "name": "a=1,b=2"})
    words = sweeping.train_command(Cell("a=1,b=2", {}, config))
    assert words[1:5] == ["-m", "palate.cli", "train", "my runs/a=1,b=2/config.yaml"]
    assert apply_overrides({}, words[5:]) == {"out": "my runs", "name": "a=1,b=2", "resume": "auto"}


def _steps(folder: Path) -> list[int]:
    try:
        lines = read_metrics(folder / "metrics.jsonl")
    except FileNotFoundError:
        return []
    return [line["step"] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_a_real_grid_is_killed_and_goes_on(
    palate: Palate, home: Path, tiny_model_folder: Path
) -> None:
    """β = 0.1 and 0.3, two at a time; Ctrl-C in the first steps, then to the end.

    Both share one reference cache, which holds the log-probs of one run's examples.
    """
    body = {
        "name": "desk",
        "model": str(tiny_model_folder),
        "method": "dpo",
        "data": {"path": str(write_pairs(home / "pairs.jsonl")), "heldout": 0.2},
        "adapter": {"rank": 4},
        "train": {
            "batch_size": 4,
            "max_steps": 60,
            "epochs": 60,
            "precision": "fp32",
            "save_every": 0,
            "eval_every": 0,
        },
        "evaluate": {"samples": 2, "max_new_tokens": 4},
    }
    (home / "recipe.yaml").write_text(yaml.safe_dump(body))
    words = ["sweep", "recipe.yaml", "method.beta=0.1,0.3", "--jobs", "2"]
    cells = [FOLDER / "beta=0.1", FOLDER / "beta=0.3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "palate.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 150
    while time.monotonic() < end and process.poll() is None:
        if any(_steps(cell) for cell in cells):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=150)
    assert process.returncode == 130, err
    before = {cell: _steps(cell) for cell in cells}
    for cell, steps in before.items():
        if steps:
            (saved,) = (cell / "checkpoints").iterdir()
            assert saved.name == f"step-{steps[-1]}"
            verify_folder(saved)
    assert any(before.values())
    again = palate(*words)
    logs = "\n".join(path.read_text() for path in (FOLDER / "logs").iterdir())
    assert again.exit_code == 0, again.output + logs
    for cell in cells:
        assert _steps(cell) == list(range(1, 61))
        assert (cell / "model" / "model.safetensors").is_file()
    for steps in before.values():
        assert not steps or f"continuing after step {steps[-1]}" in logs
    caches = [path for path in (home / "cache" / "reference").iterdir() if path.is_dir()]
    assert len(caches) == 2  # of the training examples, and of those held out
    assert "held-out accuracy" in again.stderr
    assert (FOLDER / "sweep.html").is_file()


def test_a_stop_with_everything_complete_is_no_stop(
    home: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_run", lambda *_: ([], True))
    for seed in (1, 2):
        folder = FOLDER / f"seed={seed}"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text("{}")
    sweeping.run_sweep("recipe.yaml", ["seed=1,2"], jobs=1, as_json=False)
    (FOLDER / "seed=2" / "results.json").unlink()
    with pytest.raises(Stopped, match=r"1 of 2 runs are complete"):
        sweeping.run_sweep("recipe.yaml", ["seed=1,2"], jobs=1, as_json=False)
    with pytest.raises(ConfigError):
        sweeping.run_sweep("recipe.yaml", ["seed=1"], jobs=1, as_json=False)


def test_a_misspelt_parameter_is_told_before_any_run(palate: Palate, home: Path) -> None:
    result = palate("sweep", "recipe.yaml", "method.beat=0.1,0.2", "seed=1,2")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: beat=0.1,seed=1: ")
    assert "did you mean 'beta'?" in result.stderr
    assert not (home / FOLDER).exists()
