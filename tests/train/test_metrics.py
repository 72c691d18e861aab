"""metrics.jsonl and the averages that go into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from palate.train.metrics import Averages, Interval, MetricsFile, read_metrics
from palate.train.step import StepResult


def _result(loss: float, **metrics: list[float]) -> StepResult:
    values = {name: torch.tensor(value) for name, value in metrics.items()}
    examples = len(next(iter(values.values())))
    return StepResult(torch.tensor(loss, dtype=torch.float64), values, {}, examples, 10, 15)


def test_the_mean_is_over_examples_not_over_steps() -> None:
    """(1 + 2 + 3 + 10)/4 = 4, where the mean of the two steps' means would be 6."""
    averages = Averages()
    averages.add({"margin": torch.tensor([1.0, 2.0, 3.0])})
    averages.add({"margin": torch.tensor([10.0])})
    assert averages.read() == {"margin": 4.0}


def test_reading_starts_anew() -> None:
    averages = Averages()
    averages.add({"margin": torch.tensor([8.0])})
    averages.read()
    averages.add({"margin": torch.tensor([1.0, 2.0])})
    assert averages.read() == {"margin": 1.5}


def test_sums_are_in_float64() -> None:
    """2²⁴ + 1 is no fp32 number."""
    averages = Averages()
    averages.add({"x": torch.tensor([2.0**24, 1.0])})
    assert averages.read()["x"] == (2**24 + 1) / 2


def test_an_interval_counts_all_its_steps() -> None:
    interval = Interval()
    interval.add(_result(0.5, margin=[1.0, 2.0, 3.0]))
    interval.add(_result(0.25, margin=[10.0]))
    assert interval.sizes() == {"examples": 4, "unique_tokens": 20, "path_tokens": 30}
    assert interval.means() == {"margin": 4.0, "loss": 0.375}


def test_an_interval_goes_through_json_bit_for_bit() -> None:
    third = torch.tensor([1 / 3], dtype=torch.float64)
    whole, saved = Interval(), Interval()
    for interval in (whole, saved):
        interval.add(StepResult(third[0] / 7, {"margin": third}, {}, 1, 3, 4))
    saved = Interval.from_json(json.loads(json.dumps(saved.to_json())))
    for interval in (whole, saved):
        interval.add(StepResult(third[0] / 9, {"margin": third / 11}, {}, 1, 3, 4))
    assert saved.sizes() == whole.sizes()
    assert saved.means() == whole.means()


def test_an_empty_interval_from_nothing() -> None:
    assert Interval.from_json({}).to_json() == Interval().to_json()


def _lines() -> list[dict[str, object]]:
    out: list[dict[str, object]] = [{"kind": "heldout", "step": 0}]
    for step in range(1, 5):
        out.append({"kind": "train", "step": step})
        if step % 2 == 0:
            out.append({"kind": "heldout", "step": step})
    return out


def _written(path: Path) -> MetricsFile:
    file = MetricsFile(path)
    for line in _lines():
        file.append(line)
    return file


def test_lines_are_appended_and_read_back(tmp_path: Path) -> None:
    _written(tmp_path / "m.jsonl")
    assert read_metrics(tmp_path / "m.jsonl") == _lines()


def test_floats_keep_nine_digits(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "m.jsonl").append({"loss": 0.69314718055994, "step": 1})
    assert (tmp_path / "m.jsonl").read_text() == '{"loss": 0.693147181, "step": 1}\n'


def test_what_came_after_a_step_is_cut(tmp_path: Path) -> None:
    _written(tmp_path / "m.jsonl").cut_after(2)
    assert read_metrics(tmp_path / "m.jsonl") == _lines()[:4]


def test_the_measurement_of_the_step_itself_may_go_too(tmp_path: Path) -> None:
    file = _written(tmp_path / "m.jsonl")
    file.cut_after(2, measured=False)
    assert read_metrics(tmp_path / "m.jsonl") == _lines()[:3]
    file.cut_after(0, measured=False)
    assert read_metrics(tmp_path / "m.jsonl") == []


def test_a_last_line_that_a_crash_cut_short_goes(tmp_path: Path) -> None:
    file = _written(tmp_path / "m.jsonl")
    with file.path.open("a") as handle:
        handle.write('{"kind": "train", "st')
    assert read_metrics(file.path) == _lines()
    file.cut_after(3)
    file.append({"kind": "train", "step": 4})
    assert [line["step"] for line in read_metrics(file.path)] == [0, 1, 2, 2, 3, 4]


def test_cutting_a_file_that_is_not_there(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "m.jsonl").cut_after(3)
    assert not (tmp_path / "m.jsonl").exists()


def test_an_old_file_survives_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _written(tmp_path / "m.jsonl")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palate.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.cut_after(1)
    assert read_metrics(file.path) == _lines()
