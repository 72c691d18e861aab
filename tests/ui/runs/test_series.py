"""What charts are drawn from: which there are, thinned lines, and what is new since a mark."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.ui.runs.folders import begin, dpo_lines, heldout_line, train_line, write

from palate.ui.runs.charts import charts_of, missing, values
from palate.ui.runs.metrics import Metrics
from palate.ui.runs.series import drawn, latest, since


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return begin(tmp_path)


@pytest.fixture
def metrics(folder: Path) -> Metrics:
    return Metrics(folder / "metrics.jsonl")


def test_only_what_was_recorded_has_a_chart(folder: Path, metrics: Metrics) -> None:
    write(folder, heldout_line(0, loss=0.7), *dpo_lines(1, 3))
    found = drawn(metrics)
    lines = {chart["id"]: [line["key"] for line in chart["lines"]] for chart in found["charts"]}
    assert lines == {
        "loss": ["train.loss", "heldout.loss"],
        "margin": ["train.margin"],
        "accuracy": ["train.accuracy"],
        "rewards": ["train.chosen_reward", "train.rejected_reward"],
        "speed": ["train.tokens_per_second", "train.computed_per_second"],
    }
    assert found["lines"]["train.margin"] == [[1, 2, 3], [0.1, 0.2, 0.3]]
    assert found["lines"]["heldout.loss"] == [[0], [0.7]]


def test_tokens_a_second_are_tokens_by_seconds(folder: Path, metrics: Metrics) -> None:
    """400 tokens of the examples, 100 of them computed, in two seconds: 200 and 50."""
    write(folder, train_line(1, loss=1.0))
    found = drawn(metrics)["lines"]
    assert found["train.tokens_per_second"] == [[1], [200]]
    assert found["train.computed_per_second"] == [[1], [50]]


def test_no_seconds_no_speed(folder: Path, metrics: Metrics) -> None:
    write(folder, {**train_line(1, loss=1.0), "seconds": 0.0})
    assert "train.tokens_per_second" not in drawn(metrics)["lines"]


def test_what_has_no_chart_of_its_own_is_drawn_by_its_name(folder: Path, metrics: Metrics) -> None:
    write(folder, train_line(1, loss=1.0, surprise=2.0), heldout_line(1, surprise=3.0))
    metrics.read()
    rest = [chart for chart in charts_of(metrics) if chart["more"]]
    assert [chart["title"] for chart in rest] == ["surprise"]
    assert [line["key"] for line in rest[0]["lines"]] == ["train.surprise", "heldout.surprise"]


def test_memory_is_drawn_in_gib(folder: Path, metrics: Metrics) -> None:
    write(folder, train_line(1, loss=1.0, memory=3 * 2**30))
    assert drawn(metrics)["lines"]["train.memory_gib"] == [[1], [3]]


def test_a_large_step_keeps_all_its_digits(folder: Path, metrics: Metrics) -> None:
    write(folder, train_line(12_345_678, loss=0.123456789))
    assert drawn(metrics)["lines"]["train.loss"] == [[12_345_678], [0.123457]]


def test_a_range_of_a_long_run_is_finer(folder: Path, metrics: Metrics) -> None:
    write(folder, *(train_line(step, loss=math.sin(step)) for step in range(1, 2001)))
    whole = drawn(metrics, keys=["train.loss"], points=100)["lines"]["train.loss"]
    part = drawn(metrics, keys=["train.loss"], points=100, low=500, high=540)["lines"]["train.loss"]
    assert len(whole[0]) <= 100
    assert part[0] == list(range(499, 542))


def test_new_points_since_a_mark(folder: Path, metrics: Metrics) -> None:
    write(folder, *dpo_lines(1, 3))
    mark = metrics.read()
    assert since(metrics, mark) == {}
    write(folder, heldout_line(3, loss=0.5), train_line(4, loss=0.25))
    metrics.read()
    found = since(metrics, mark)
    assert found is not None
    assert found["train.loss"] == [[4], [0.25]]
    assert found["heldout.loss"] == [[3], [0.5]]
    assert found["train.tokens_per_second"] == [[4], [200]]
    assert "train.margin" not in found


def test_a_changed_past_is_drawn_anew(folder: Path, metrics: Metrics) -> None:
    write(folder, *dpo_lines(1, 3))
    mark = metrics.read()
    write(folder, train_line(2, loss=9.0))
    metrics.read()
    assert since(metrics, mark) is None
    (folder / "metrics.jsonl").unlink()
    metrics.read()
    assert since(metrics, mark) is None


def test_the_latest_value_is_the_last_number(folder: Path, metrics: Metrics) -> None:
    write(folder, train_line(1, loss=0.5, margin=1.0), train_line(2, loss=math.nan))
    metrics.read()
    found = latest(metrics)
    assert found["train.loss"] == (1, 0.5)
    assert found["train.margin"] == (1, 1.0)


def test_what_is_missing_is_said_with_its_reason(folder: Path, metrics: Metrics) -> None:
    write(folder, *dpo_lines(1, 3))
    metrics.read()
    said = {one["what"]: one["why"] for one in missing(metrics, {"comparison": {"kl": 12.9}})}
    assert said["KL on sampled text"] == "measured at the end: 12.9 nats an answer."
    assert "Held-out figures" in said
    assert "Margins and accuracy" not in said
    write(folder, train_line(4, loss=0.1, kl=1.0, memory=1.0), heldout_line(4, loss=0.2))
    metrics.read()
    again = {one["what"] for one in missing(metrics, {})}
    assert again == {"Answer length"}


def test_an_unknown_line_is_empty(metrics: Metrics) -> None:
    assert [len(column) for column in values(metrics, "train.loss")] == [0, 0]
    assert [len(column) for column in values(metrics, "nonsense")] == [0, 0]
    assert drawn(metrics)["lines"] == {}
