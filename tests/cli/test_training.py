"""`palate train`: overrides, output, interruptions by signal, and disks that are full."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import write_pairs
from typer.testing import Result

from palate.config import load_config
from palate.durable import verify_folder
from palate.train.metrics import read_metrics

Palate = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path) -> Path:
    body = {
        "name": "desk",
        "model": str(tiny_model_folder),
        "data": {"path": str(write_pairs(tmp_path / "pairs.jsonl")), "heldout": 0.2},
        "adapter": {"rank": 4},
        "train": {
            "batch_size": 4,
            "max_steps": 2,
            "precision": "fp32",
            "save_every": 1,
            "eval_every": 0,
        },
        "evaluate": {"samples": 2, "max_new_tokens": 4},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def test_a_run_and_its_summary(palate: Palate, recipe: Path) -> None:
    result = palate("train", recipe)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    text = result.stderr
    for words in ("Data", "Held-out", "2 steps in", "model ", "report ", "palate chat runs/desk"):
        assert words in text
    assert Path("runs/desk/report.html").is_file()


def test_json_alone_on_standard_output(palate: Palate, recipe: Path) -> None:
    result = palate("train", recipe, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(Path("runs/desk/results.json").read_text())
    again = palate("train", "runs/desk/config.yaml", "resume=auto", "--json")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert "complete already" in again.stderr


def test_overrides(palate: Palate, recipe: Path) -> None:
    result = palate(
        "train", recipe, "name=other", "optim.lr=2e-3", "method.name=dpo", "method.beta=0.3",
        "train.max_steps=1", "evaluate.samples=0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    config = load_config("runs/other/config.yaml")
    assert (config.optim.lr, config.method["beta"], config.train.max_steps) == (2e-3, 0.3, 1)
    results = json.loads(Path("runs/other/results.json").read_text())
    assert results["method"] == {"name": "dpo", "beta": 0.3}


def broken_data(folder: Path) -> str:
    (folder / "bad.jsonl").write_text("{\n")
    return "data=bad.jsonl"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trian.epochs=2", r"unknown key 'trian'; did you mean 'train'"),
        ("train.epoch=2", r"unknown key 'train.epoch'; did you mean 'epochs'"),
        ("train.batch_size=0", r"'train.batch_size': .*greater than or equal to 1"),
        ("epochs", r"'epochs' is not an override"),
        ("method=dp0", r"no method is called 'dp0'; did you mean 'dpo'"),
        ("method.betta=1", r"method needs a name|did you mean 'beta'"),
        ("evaluate.rule=none.py:f", r"there is no file none.py"),
        ("evaluate.rule=no_such_module:f", r"'no_such_module:f' cannot be imported"),
        ("train.device=abacus", r"'abacus' is not one of auto, cpu"),
        ("model=no/such/model", r"the model 'no/such/model' cannot be loaded"),
        ("data=missing.jsonl", r"missing.jsonl"),
        ("out=recipe.yaml", r"cannot be written \(Not a directory\): choose another"),
        ("out=/proc/none", r"cannot be written \(.*\): choose another"),
        (broken_data, r"no usable row in bad.jsonl: broken-json 1.*runs/desk/rejects.jsonl$"),
    ],
)
def test_mistakes_are_one_line_and_2(
    palate: Palate, recipe: Path, tmp_path: Path, override: Any, said: str
) -> None:
    import re

    word = override(tmp_path) if callable(override) else override
    result = palate("train", recipe, word)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1] == errors[0]
    assert re.search(said, errors[0]), errors[0]
    assert "Traceback" not in result.stderr
    if callable(override):
        rows = Path("runs/desk/rejects.jsonl").read_text().splitlines()
        assert [json.loads(row)["reason"] for row in rows] == ["broken-json"]


def test_no_recipe(palate: Palate) -> None:
    result = palate("train", "missing.yaml")
    assert result.exit_code == 2
    assert (
        result.stderr == "error: cannot read the recipe missing.yaml: No such file or directory\n"
    )


def test_a_disk_that_fills_at_each_write_of_a_checkpoint(
    palate: Palate, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write fails, one line and the cure, and the checkpoint before stands."""
    from palate.train import checkpoint, saving

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    real = saving.write
    for name in ("save_file", "commit_folder"):
        with monkeypatch.context() as patch:

            def second(
                root: Path, staged: Any, keep: int, name: str = name, patch: Any = patch
            ) -> Any:
                if staged.step == 2:
                    patch.setattr(checkpoint, name, full)
                return real(root, staged, keep)

            patch.setattr(saving, "write", second)
            result = palate("train", recipe, f"name={name}")
        assert result.exit_code == 2, result.output
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: No space left on device")
        assert last.endswith("free some space, then continue with resume=auto")
        root = Path("runs") / name / "checkpoints"
        assert [p.name for p in root.iterdir()] == ["step-1"]
        verify_folder(root / "step-1")
        again = palate("train", f"runs/{name}/config.yaml", "resume=auto")
        assert again.exit_code == 0, again.output


def _start(*words: str, limit: int | None = None) -> subprocess.Popen[str]:
    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "palate.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=confine,  # noqa: PLW1509 - the child only sets a limit
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _steps(folder: Path) -> list[int]:
    try:
        lines = read_metrics(folder / "metrics.jsonl")
    except FileNotFoundError:
        return []
    return [line["step"] for line in lines if line["kind"] == "train"]


def _wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if step in _steps(folder):
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_a_file_size_limit_stands_for_a_full_disk(palate: Palate, recipe: Path) -> None:
    """Without any pretence: the system itself refuses to write the second checkpoint."""
    first = _start("train", str(recipe), "train.save_every=1", "train.max_steps=900",
                   "train.epochs=900", "adapter.rank=48")  # fmt: skip
    _wait_for_step(first, Path("runs/desk"), 1)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=90)
    assert first.returncode == 130, err
    root = Path("runs/desk/checkpoints")
    kept = sorted(p.name for p in root.iterdir())
    process = _start("train", "runs/desk/config.yaml", "resume=auto", limit=100_000)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 2, err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: File too large (runs/desk/checkpoints/step-")
    assert sorted(p.name for p in root.iterdir()) == kept
    for folder in root.iterdir():
        verify_folder(folder)
    steps = len(_steps(Path("runs/desk")))
    more = palate("train", "runs/desk/config.yaml", "resume=auto", f"train.max_steps={steps + 1}")
    assert more.exit_code == 0, more.output
    assert _steps(Path("runs/desk")) == list(range(1, steps + 2))


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(palate: Palate, recipe: Path) -> None:
    folder = Path("runs/desk")
    process = _start("train", str(recipe), "train.max_steps=900", "train.epochs=900",
                     "train.save_every=0")  # fmt: skip
    _wait_for_step(process, folder, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert out == ""
    steps = _steps(folder)
    assert f"stopped after step {steps[-1]}; everything so far is saved. Continue with:" in err
    assert err.splitlines()[-1] == "  palate train runs/desk/config.yaml resume=auto"
    assert [p.name for p in (folder / "checkpoints").iterdir()] == [f"step-{steps[-1]}"]
    total = steps[-1] + 2
    more = palate("train", "runs/desk/config.yaml", "resume=auto", f"train.max_steps={total}")
    assert more.exit_code == 0, more.output
    assert f"continuing after step {steps[-1]}" in more.stderr
    assert _steps(folder) == list(range(1, total + 1))
    assert (folder / "model" / "model.safetensors").is_file()


def test_the_second_signal_stops_at_once(
    palate: Palate, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.train import packing

    real = packing.compute_step

    def twice(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("backward", True):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(packing, "compute_step", twice)
    result = palate("train", recipe)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-2:] == [
        "stopped at once. Continue with:",
        "  palate train runs/desk/config.yaml resume=auto",
    ]
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    monkeypatch.setenv("PALATE_CACHE", str(recipe.parent / "cache"))
    monkeypatch.chdir(recipe.parent)
    assert palate("train", "runs/desk/config.yaml", "resume=auto").exit_code == 0


def test_the_way_on_is_quoted_for_a_shell(palate: Palate, recipe: Path) -> None:
    from palate.cli.training import _how_to_go_on

    config = load_config(recipe, ["out=my runs"])
    assert "palate train 'my runs/desk/config.yaml' resume=auto" in _how_to_go_on(config)
    assert palate("version").exit_code == 0
