"""How far a run has come: its steps, the time left, and a row of the list of runs."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.evaluate.headline import headline
from palate.evaluate.runfolder import EVALUATION, RunFiles, read_run, section
from palate.evaluate.runfolder import Table as Facts
from palate.evaluate.wording import clean, duration
from palate.ui.runs.columns import Table
from palate.ui.runs.folders import parts_of, runs_in
from palate.ui.runs.states import State

_ENDS = 2**16  # bytes of metrics.jsonl that a row of the list is made from, at either end
_RECENT = 20  # lines that the time left is reckoned from
GOING = ("running", "saving", "elsewhere")


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done and in all, as far as they are known, and the seconds left of a run that goes."""

    step: int | None
    total: int | None
    left: float | None = None

    @property
    def share(self) -> float | None:
        """Of the whole, in [0, 1]."""
        if self.step is None or not self.total:
            return None
        return min(1.0, self.step / self.total)

    def facts(self, *, going: bool) -> dict[str, Any]:
        """As pages and events tell it."""
        left = self.left if going else None
        words = f"about {duration(left)} left" if left is not None else ""
        return {**asdict(self), "left": left, "share": self.share, "left_words": words}


def progress_of(config: Facts, train: Table) -> Progress:
    """From the recipe and the train lines. The whole is known once a first line says its epoch."""
    recipe = section(config, "train")
    most, epochs = recipe.get("max_steps"), recipe.get("epochs")
    if not train.rows:
        return Progress(None, None)
    step = float(train.steps[-1])
    epoch = float(train.column("epoch")[-1])
    totals = [most] if isinstance(most, int) and not isinstance(most, bool) else []
    if isinstance(epochs, int | float) and epoch > 0 and math.isfinite(epoch):
        totals.append(math.ceil(epochs * step / epoch - 1e-3))
    total = min(totals) if totals else None
    each = _seconds_a_step(train)
    left = None if total is None or each is None else max(0.0, each * (total - step))
    return Progress(int(step), total, left)


def _seconds_a_step(train: Table) -> float | None:
    """Over the last lines: a line's seconds are those of the steps since the one before."""
    steps = np.concatenate([[0.0], train.steps])[-_RECENT - 1 :]
    seconds = train.column("seconds")[-_RECENT:]
    there = np.isfinite(seconds)
    done = np.diff(steps)[-len(seconds) :][there].sum()
    return float(seconds[there].sum() / done) if done > 0 else None


def method_of(config: Facts) -> str:
    """The method's name; of a run in stages, those of its stages."""
    stages = config.get("stages")
    if isinstance(stages, list) and stages:
        return clean(" → ".join(_named(one) for one in stages))
    return clean(_named(config))


def _named(recipe: object) -> str:
    """A recipe's method; a stage may give its name alone."""
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    found = method.get("name") if isinstance(method, Mapping) else method
    return str(found or "?")


def model_of(config: Facts) -> str:
    """The model that it began with, as the recipe calls it."""
    return clean(str(section(config, "model").get("path") or "?"))


def gate_of(run: RunFiles) -> bool | None:
    """Whether the gate was passed; None where `palate eval` has not measured."""
    passed = section(run.evaluation, "gate").get("passed")
    return passed if isinstance(passed, bool) else None


class Rows:
    """Rows of the list of runs, each made anew only when its folder's files have changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[object, dict[str, Any]]] = {}

    def of(self, name: str, folder: Path, state: State) -> dict[str, Any]:
        """A run's row: JSON-ready."""
        print_of = _fingerprint(folder)
        with self._lock:
            known = self._kept.get(folder)
        if known is None or known[0] != print_of:
            known = (print_of, _row(name, folder))
            with self._lock:
                self._kept[folder] = known
        row = dict(known[1])
        going = state.word in GOING
        if not going:
            row["progress"] = {**row["progress"], "left": None, "left_words": ""}
        return {**row, "state": state.word, "error": state.error}


def newest_first(runs: Path) -> list[tuple[str, Path]]:
    """All runs, by when each was begun."""
    found = runs_in(runs)
    return sorted(found.items(), key=lambda one: (-began(one[1]), one[0]))


def began(folder: Path) -> float:
    """When a run's recipe was written, as Unix time; 0 where it is gone."""
    try:
        return (folder / "config.yaml").stat().st_mtime
    except OSError:
        return 0.0


def moment(seconds: float) -> str:
    """A time of day for people, here."""
    return time.strftime("%d %b %Y, %H:%M", time.localtime(seconds)) if seconds else ""


def _row(name: str, folder: Path) -> dict[str, Any]:
    run = read_run(folder, _ends(folder / "metrics.jsonl"))
    table = Table()
    table.add([line for line in run.train if "seconds" in line or "epoch" in line])
    at = began(folder)
    return {
        "name": name,
        "method": method_of(run.config),
        "model": model_of(run.config),
        "headline": clean(headline(run)),
        "gate": gate_of(run),
        "progress": progress_of(run.config, table).facts(going=True),
        "began": at,
        "when": moment(at),
        "parts": parts_of(folder),
    }


def _fingerprint(folder: Path) -> list[tuple[int, int] | None]:
    names = ("config.yaml", "metrics.jsonl", "results.json", EVALUATION)
    return [_stamp(folder / name) for name in names]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _ends(path: Path) -> Sequence[Facts]:
    """The first and the last lines of a metrics file: a row needs no more."""
    try:
        with path.open("rb") as file:
            head = file.read(_ENDS)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _ENDS))
            tail = file.read(_ENDS)
    except OSError:
        return []
    parts = [head, tail] if tail else [head]
    if tail and size - len(tail) > len(head):
        parts = [head.rpartition(b"\n")[0], tail.partition(b"\n")[2]]
    elif tail:
        parts = [head + tail]
    found = []
    for raw in b"\n".join(parts).split(b"\n"):
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
