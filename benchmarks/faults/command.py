"""`palate train` of a tiny model as a command, begun and continued in one folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.faults.attempts import ROOT, Attempt, Fault, attempts
from benchmarks.faults.tiny_run import assert_same_run, prepare, recipe

SAVE_EVERY = 3
LORA: dict[str, Any] = {"train": {"max_steps": 8, "save_every": SAVE_EVERY, "eval_every": 4}}
KINDS: dict[str, dict[str, Any]] = {"lora": LORA, "full": {**LORA, "adapter": {"kind": "full"}}}


def write_recipe(folder: Path, kind: str = "lora") -> Path:
    """recipe.yaml in the folder; where its run will be."""
    from palate.config import dump_config

    config = recipe(_desk(), folder / "runs", **KINDS[kind])
    (folder / "recipe.yaml").write_text(dump_config(config), encoding="utf-8")
    return config.folder


def palate_train(folder: Path, **how: Any) -> Attempt:
    """`palate train`, which begins or continues the run of `folder`."""
    return attempts().run(["train", "recipe.yaml"], folder, **how)


def finish(folder: Path, run: Path, whole: Path) -> None:
    """The run comes to its end and is the whole one; nothing that was being written is left."""
    done = palate_train(folder)
    assert done.code == 0, f"exit code {done.code}: {done.err[-300:]}"
    assert_same_run(run, whole)
    left = sorted(path.name for path in run.rglob(".*") if path.name != ".lock")
    assert not left, f"left behind: {left}"


def told(run: Path) -> int:
    """The last step in metrics.jsonl; a kill may have cut its last line."""
    from palate.train.metrics import read_metrics

    file = run / "metrics.jsonl"
    lines = read_metrics(file) if file.is_file() else []
    return max((line["step"] for line in lines if line["kind"] == "train"), default=0)


def lost_steps(run: Path) -> int:
    """Steps that metrics.jsonl tells of and no checkpoint holds; those that are there are whole.

    One interval at most, and what was trained while a checkpoint was being written beside it: the
    next one waits for that, so that this is one more at most.
    """
    from palate.durable import verify_folder
    from palate.train.checkpoint import list_checkpoints

    saved = list_checkpoints(run / "checkpoints")
    for path in saved:
        verify_folder(path)
    step = int(saved[-1].name.removeprefix("step-")) if saved else 0
    lost = told(run) - step
    assert lost <= 2 * SAVE_EVERY, f"{lost} steps are lost, saved was every {SAVE_EVERY}"
    return lost


def counted(folder: Path, below: tuple[str, ...], kind: str = "lora", **more: Any) -> list[str]:
    """The operations of an undisturbed run in an empty folder, as `N what path`."""
    folder.mkdir()
    run, log = write_recipe(folder, kind), folder / "operations"
    fault = Fault(tuple(str(folder / name) for name in below), log=str(log), **more)
    done = palate_train(folder, fault=fault)
    assert done.code == 0, done.err
    assert_same_run(run, undisturbed(kind)[0])
    return log.read_text(encoding="utf-8").replace(f"{folder}/", "").splitlines()


@functools.cache
def undisturbed(kind: str) -> tuple[Path, Attempt]:
    """An uninterrupted run in a process that nobody forked; and what one is that is forked."""
    folder = scratch() / f"whole-{kind}"
    folder.mkdir()
    run = write_recipe(folder, kind)
    words = [sys.executable, "-m", "palate.cli", "train", "recipe.yaml"]
    more = {"PYTHONPATH": str(ROOT / "src"), "PALATE_CACHE": str(folder / "cache")}
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    again = scratch() / f"again-{kind}"
    again.mkdir()
    since = write_recipe(again, kind) / "metrics.jsonl"
    return run, palate_train(again, since=since)


@functools.cache
def _desk() -> Path:
    return prepare(scratch() / "desk")


def scratch() -> Path:
    """A folder that goes with this process."""
    return Path(_kept().name)


@functools.cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="palate-trials-")
