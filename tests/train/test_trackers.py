"""Each tracker with its real package: what is written can be read back."""

from __future__ import annotations

import importlib
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.train.metrics import MetricsFile
from palate.train.trackers import TRACKERS, Trackers, flat, numbers

CONFIG = {"name": "desk", "seed": 3, "method": {"name": "dpo", "beta": 0.1}, "resume": None}
Points = dict[str, list[tuple[int, float]]]
KEYS = (
    "WANDB_MODE",
    "WANDB_API_KEY",
    "WANDB_PROJECT",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "TRACKIO_DIR",
    "TRACKIO_SPACE_ID",
    "TRACKIO_SERVER_URL",
)


@pytest.fixture(autouse=True)
def plain_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine's user, and nobody to talk to but this machine itself."""
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert host in {"127.0.0.1", "::1", "localhost"}, f"tried to reach {host}"
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def from_tensorboard(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def records(path: Path) -> Iterator[bytes]:
    """A .wandb file is a LevelDB log after seven bytes: blocks of 32 KiB, in them parts of records,

    each with a checksum (4 bytes), a length (2) and a type: 1 whole, 2 first, 3 middle, 4 last.
    """
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:
            yield parts
            parts = b""


def from_wandb(folder: Path) -> Points:
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    out: Points = {}
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            if not name.startswith("_"):
                point = (record.history.step.num, json.loads(item.value_json))
                out.setdefault(name, []).append(point)
    return out


def from_mlflow(folder: Path) -> Points:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve()}/mlflow/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'palate'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["method.beta"] == "0.1"
    assert run.info.run_name == folder.name
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def from_trackio(folder: Path) -> Points:
    from trackio.sqlite_storage import SQLiteStorage

    assert (folder / "trackio" / "palate.db").is_file()
    out: Points = {}
    for row in SQLiteStorage.get_logs("palate", folder.name):
        for name, value in row.items():
            if "/" in name:
                out.setdefault(name, []).append((row["step"], value))
    return out


READERS: dict[str, Callable[[Path], Points]] = {
    "tensorboard": from_tensorboard,
    "wandb": from_wandb,
    "mlflow": from_mlflow,
    "trackio": from_trackio,
}
each_tracker = pytest.mark.parametrize("name", list(TRACKERS))


def train_line(step: int) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": 1.0 / (2 * step), "examples": 8}


def heldout_line(step: int) -> dict[str, Any]:
    return {"kind": "heldout", "step": step, "n": 2, "loss": 0.25, "accuracy": 0.5}


def ready(name: str) -> None:
    if name == "mlflow":
        pytest.importorskip("sqlalchemy")
        pytest.importorskip("alembic")
    pytest.importorskip(name)


def opened(name: str, folder: Path) -> tuple[Trackers, MetricsFile, list[str]]:
    said: list[str] = []
    trackers = Trackers([name], CONFIG, folder, said.append)
    return trackers, MetricsFile(folder / "metrics.jsonl", on_line=trackers.on_line), said


def without_repeats(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    assert len({step for step, _ in points}) == len(points), points
    return sorted(points)


@pytest.mark.slow
@each_tracker
def test_what_is_logged_is_read_back_and_a_continued_run_repeats_no_step(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after step 3 with its checkpoint at step 2; a second run in the same process.

    Losses are 1/2, 1/4, 1/8: exact in the fp32 that TensorBoard keeps.
    """
    ready(name)
    folder = tmp_path / "runs" / "beta=0.1,seed=2"
    folder.mkdir(parents=True)
    trackers, metrics, said = opened(name, folder)
    metrics.append(heldout_line(0))
    for step in (1, 2):
        metrics.append(train_line(step))
    metrics.append(heldout_line(2))
    metrics.append({**train_line(4), "step": 3})
    trackers.finish()

    trackers, metrics, again = opened(name, folder)
    metrics.cut_after(2)
    metrics.append({**train_line(4), "step": 3})
    metrics.append({**train_line(8), "step": 4})
    trackers.finish()
    assert said == again == []
    found = READERS[name](folder)
    assert without_repeats(found["train/loss"]) == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]
    assert without_repeats(found["heldout/accuracy"]) == [(0, 0.5), (2, 0.5)]
    assert set(found) == {
        "train/loss",
        "train/examples",
        "heldout/loss",
        "heldout/accuracy",
        "heldout/n",
    }

    other = tmp_path / "runs" / "other"
    other.mkdir()
    trackers, metrics, said = opened(name, other)
    metrics.append(train_line(1))
    trackers.finish()
    assert said == []
    assert READERS[name](other)["train/loss"] == [(1, 0.5)]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "INFO" not in printed.err
    if name != "trackio":  # whose reader serves one folder at a time
        assert len(READERS[name](folder)["train/loss"]) == 4


@pytest.mark.slow
def test_a_key_in_the_environment_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready("wandb")
    key = "0123456789abcdef" * 2 + "fedcba98"
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    folder.mkdir()
    trackers, metrics, said = opened("wandb", folder)
    metrics.append(train_line(1))
    trackers.finish()
    assert said == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        assert key.encode() not in path.read_bytes(), path


@each_tracker
def test_a_missing_package_is_one_line_before_anything_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda p, *more: None if p == name else real(p, *more)
    )
    with pytest.raises(ValueError, match=rf"{name} needs .* {name}: pip install 'palate\[track\]'"):
        Trackers([name], CONFIG, tmp_path)


class Recorder:
    """A tracker in memory, which fails from line `breaks` on."""

    def __init__(self, breaks: int | None = None) -> None:
        self.events: list[Any] = []
        self.breaks = breaks

    def start(self, config: Any, folder: Path) -> None:
        self.events.append("start")

    def log(self, line: Any, step: int) -> None:
        if self.breaks == step:
            raise OSError(f"the server\nis away at {step}")
        self.events.append((step, dict(line)))

    def finish(self) -> None:
        self.events.append("finish")


def recorded(tmp_path: Path, *recorders: Recorder) -> tuple[Trackers, MetricsFile, list[str]]:
    said: list[str] = []
    trackers = Trackers([], CONFIG, tmp_path, said.append)
    trackers.running = {f"t{number}": one for number, one in enumerate(recorders)}
    return trackers, MetricsFile(tmp_path / "metrics.jsonl", on_line=trackers.on_line), said


def test_trackers_begin_with_the_first_line_and_are_told_what_was_before(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").append(train_line(1))
    one = Recorder()
    trackers, metrics, _ = recorded(tmp_path, one)
    assert one.events == []
    metrics.append(train_line(2))
    metrics.append(heldout_line(2))
    trackers.finish()
    trackers.finish()
    assert one.events == [
        "start",
        (1, {"train/loss": 0.5, "train/examples": 8.0}),
        (2, {"train/loss": 0.25, "train/examples": 8.0}),
        (2, {"heldout/n": 2.0, "heldout/loss": 0.25, "heldout/accuracy": 0.5}),
        "finish",
    ]


def test_a_run_without_lines_starts_no_tracker(tmp_path: Path) -> None:
    one = Recorder()
    trackers, _, _ = recorded(tmp_path, one)
    trackers.finish()
    assert one.events == []


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    bad, good = Recorder(breaks=2), Recorder()
    trackers, metrics, said = recorded(tmp_path, bad, good)
    for step in (1, 2, 3):
        metrics.append(train_line(step))
    trackers.finish()
    assert said == [
        "the tracker t0 failed, and the run goes on without it: the server is away at 2"
    ]
    assert [event[0] for event in bad.events if event != "start"] == [1]
    assert [event[0] for event in good.events[1:-1]] == [1, 2, 3]
    assert good.events[-1] == "finish"


def test_another_rank_logs_nothing(tmp_path: Path) -> None:
    one = Recorder()
    trackers, _, _ = recorded(tmp_path, one)
    MetricsFile(tmp_path / "m.jsonl", writes=False, on_line=trackers.on_line).append(train_line(1))
    assert one.events == []


def test_only_numbers_are_told() -> None:
    line = {"kind": "train", "step": 1, "loss": 1, "note": "text", "ok": True, "none": None}
    assert numbers(line) == {"train/loss": 1.0}


def test_settings_by_dotted_names() -> None:
    assert dict(flat(CONFIG)) == {
        "name": "desk",
        "seed": "3",
        "method.name": "dpo",
        "method.beta": "0.1",
        "resume": "None",
    }


def test_no_tracker_is_imported_before_it_is_used() -> None:
    import subprocess

    code = "import sys, palate.train.trackers\n"
    code += "print({'wandb', 'mlflow', 'trackio'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "set()\n"
