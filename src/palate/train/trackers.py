"""Trackers: the lines of metrics.jsonl, shown in TensorBoard, Weights & Biases, MLflow or Trackio.

metrics.jsonl is what a run keeps; a tracker is a copy of it for a program with charts of its
own, in the run's folder. Nothing leaves the machine unless the environment says so
(`WANDB_MODE` or `WANDB_API_KEY`, `MLFLOW_TRACKING_URI`, `TRACKIO_SPACE_ID` or
`TRACKIO_SERVER_URL`), and no key is written anywhere.

A run that is continued tells its trackers everything from the first line on, since metrics.jsonl
forgets the steps after its checkpoint. No step is there twice: TensorBoard, Trackio and
Weights & Biases offline begin their copy anew; MLflow goes on with the same run and is not told
again what it has; so does Weights & Biases online, which keeps no step below its last.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from palate.durable import write_json
from palate.train.metrics import read_metrics

PROJECT = "palate"
_IDS = "trackers.json"
_MLFLOW_BATCH = 100  # parameters that MLflow takes at once


class Tracker(Protocol):
    """One program's copy of a run's numbers."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Open the copy in the run's folder; `config` is the resolved config as plain values."""

    def log(self, line: Mapping[str, float], step: int) -> None:
        """Numbers of a step, their names prefixed with `train/` or `heldout/`."""

    def finish(self) -> None:
        """Everything that was logged is kept when this returns."""


class TensorBoard:
    """Event files in `tensorboard/`: `tensorboard --logdir runs` shows all runs."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Write a new event file; the config is its text `config`."""
        from torch.utils.tensorboard import SummaryWriter

        place = _emptied(folder / "tensorboard")
        self.writer = SummaryWriter(str(place))
        text = "\n".join(f"    {key}: {value}" for key, value in flat(config))  # as code
        self.writer.add_text("config", text)

    def log(self, line: Mapping[str, float], step: int) -> None:
        """One scalar each."""
        for name, value in line.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Flush and close the file."""
        self.writer.close()


class WandB:
    """An offline run in `wandb/`, for `wandb sync`; online where the environment says so.

    A continued run keeps its id. Send an offline run once it has ended: what was sent before
    an interruption is on the server already, and the server takes no step twice.
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin, or continue, the run whose id is in trackers.json."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # crash reports go to a server
        import wandb

        keyed = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        mode = os.environ.get("WANDB_MODE") or keyed
        if mode == "offline":
            _emptied(folder / "wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=folder.name,
            id=_kept_id(folder, "wandb", lambda: uuid.uuid4().hex[:8]),
            resume="allow" if mode == "online" else None,
            mode=mode,  # type: ignore[arg-type]
            dir=str(folder),
            config=dict(config),
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True
            ),
        )
        self.known = self.run.step - 1 if self.run.resumed else -1

    def log(self, line: Mapping[str, float], step: int) -> None:
        """One row; lines of the same step join it."""
        if step > self.known:
            self.run.log(dict(line), step=step)

    def finish(self) -> None:
        """Wait until everything is written, or sent.

        Its helper process is ended too, unless a run of somebody else uses it: a run of the same
        id that begins while it still closes this one is not written.
        """
        import wandb

        self.run.finish()
        if wandb.run is None:
            wandb.teardown()


class MLflow:
    """A run in `mlflow/mlflow.db`, or on the server that `MLFLOW_TRACKING_URI` names.

    Shown by `mlflow ui --backend-store-uri sqlite:///runs/NAME/mlflow/mlflow.db`.
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Create the run, or find the one that trackers.json names."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):  # importing it sets them
            logging.getLogger(noisy).setLevel(logging.WARNING)
        remote = os.environ.get("MLFLOW_TRACKING_URI")
        local = folder.resolve() / "mlflow"
        if not remote:
            local.mkdir(exist_ok=True)
        self.client = MlflowClient(tracking_uri=remote or f"sqlite:///{local}/mlflow.db")
        found = _read_ids(folder).get("mlflow") if remote or any(local.iterdir()) else None
        self.run_id = found or self._create(config, folder, None if remote else local.as_uri())
        _keep_id(folder, "mlflow", self.run_id)
        self.known = {kind: self._last(f"{kind}/loss") for kind in ("train", "heldout")}

    def _create(self, config: Mapping[str, Any], folder: Path, artifacts: str | None) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        there = self.client.get_experiment_by_name(name)
        if there is not None:
            home = there.experiment_id
        else:
            home = self.client.create_experiment(name, artifact_location=artifacts)
        run_id: str = self.client.create_run(home, run_name=folder.name).info.run_id
        settings = [Param(key, value[:500]) for key, value in flat(config)]
        for first in range(0, len(settings), _MLFLOW_BATCH):
            self.client.log_batch(run_id, params=settings[first : first + _MLFLOW_BATCH])
        return run_id

    def _last(self, name: str) -> int:
        history = self.client.get_metric_history(self.run_id, name)
        return max((metric.step for metric in history), default=-1)

    def log(self, line: Mapping[str, float], step: int) -> None:
        """All numbers of the line in one transaction; none that the run has already."""
        from mlflow.entities import Metric

        kind = next(iter(line), "").partition("/")[0]
        if step <= self.known.get(kind, -1):
            return
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in line.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.run_id)


class Trackio:
    """A database in `trackio/`, or where `TRACKIO_DIR` says: `trackio show` serves it."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run of the project `palate`."""
        with _silent():
            import trackio
            from trackio import sqlite_storage, utils

            if not os.environ.get("TRACKIO_DIR"):
                # Trackio reads its folder once, on import; a process may train more than one run.
                place = _emptied(folder.resolve() / "trackio")
                utils.TRACKIO_DIR = sqlite_storage.TRACKIO_DIR = place
            self.run = trackio.init(
                PROJECT,
                name=folder.name,
                config={key: value for key, value in config.items() if value is not None},
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log(self, line: Mapping[str, float], step: int) -> None:
        """One row."""
        self.run.log(dict(line), step=step)

    def finish(self) -> None:
        """Wait until everything is written, or sent."""
        with _silent():
            import trackio

            trackio.finish()


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
_NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}  # beside a package of the same name


class Trackers:
    """All trackers of a run. They begin with the first line, and end with `finish`.

    A tracker that fails is named once through `note` and left out from then on: a server that
    is away must not end a run. Raises `ValueError` at once when a package is missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        config: Mapping[str, Any],
        folder: Path,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        for name in names:
            absent = [p for p in _NEEDS.get(name, (name,)) if importlib.util.find_spec(p) is None]
            if absent:
                raise ValueError(
                    f"train.trackers: {name} needs the package {absent[0]}: "
                    "pip install 'palate[track]', or take it out of the list"
                )
        self.config, self.folder, self.note = config, folder, note
        self.running = {name: TRACKERS[name]() for name in dict.fromkeys(names)}
        self.begun = False

    def on_line(self, line: Mapping[str, Any]) -> None:
        """A line that has just been added to metrics.jsonl."""
        if not self.running:
            return
        lines: Iterable[Mapping[str, Any]] = [line]
        if not self.begun:
            self.begun = True
            self._each(lambda tracker: tracker.start(self.config, self.folder))
            lines = read_metrics(self.folder / "metrics.jsonl")
        for one in lines:
            self._tell(numbers(one), int(one["step"]))

    def finish(self) -> None:
        """End those that have begun."""
        if self.begun:
            self._each(lambda tracker: tracker.finish())
        self.running = {}

    def _tell(self, values: Mapping[str, float], step: int) -> None:
        self._each(lambda tracker: tracker.log(values, step))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.running.items()):
            try:
                do(tracker)
            except Exception as error:  # noqa: BLE001 - of another's program, and never worth a run
                del self.running[name]
                said = " ".join(str(error).split())[:300] or type(error).__name__
                self.note(f"the tracker {name} failed, and the run goes on without it: {said}")


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl, named `KIND/NAME`; the step is not among them."""
    return {
        f"{line['kind']}/{key}": float(value)
        for key, value in line.items()
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names, values as text."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)


def _emptied(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _read_ids(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep_id(folder: Path, name: str, value: str) -> None:
    write_json(folder / _IDS, {**_read_ids(folder), name: value})


def _kept_id(folder: Path, name: str, make: Callable[[], str]) -> str:
    """The id that this run has in a tracker, made on first use."""
    value = _read_ids(folder).get(name) or make()
    _keep_id(folder, name, value)
    return value


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Trackio prints its greetings to standard output, which `--json` keeps for JSON."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
