"""Held-out examples one by one: the spread of their margins, and slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ui.runs.folders import begin, write

from palate.records import Completion, Example, Message, Provenance
from palate.store.columns import write_parquet
from palate.ui.runs.margins import Measurement, Spreads, read_measurement, spread


def examples(folder: Path, ids: list[str], tokens: list[list[int]]) -> None:
    write(folder, {"kind": "examples", "ids": ids, "tokens": tokens}, file="heldout.jsonl")


def measured(folder: Path, step: int, **values: list[float | None]) -> None:
    write(folder, {"kind": "values", "step": step, **values}, file="heldout.jsonl")


def measurement(*values: float) -> Measurement:
    ids = [str(i) for i in range(len(values))]
    return Measurement(7, "margin", np.array(values), ids, [[1, 2]] * len(values))


def test_bars_meet_at_zero() -> None:
    """From −1 to 2 in bars of 0.1: ten below zero, twenty above, and what is 0 counts above."""
    found = spread(measurement(-1.0, -0.05, 0.0, 0.05, 2.0))
    edges = [bar["from"] for bar in found["bars"]] + [found["bars"][-1]["to"]]
    assert 0.0 in edges
    assert sum(bar["count"] for bar in found["bars"]) == 5
    assert sum(bar["count"] for bar in found["bars"] if bar["to"] <= 0) == 2
    assert found["n"] == 5
    assert "50\u202f% are above 0" in found["words"], "two and a half of five: a tie is half"


def test_all_alike_is_one_bar() -> None:
    found = spread(measurement(0.0, 0.0))
    assert [bar["count"] for bar in found["bars"]] == [2]


def test_all_on_one_side() -> None:
    found = spread(measurement(1.0, 2.0, 3.0))
    assert (found["bars"][0]["from"], found["bars"][-1]["to"]) == (1.0, 3.0)


def test_what_is_not_finite_is_left_out() -> None:
    assert spread(measurement(1.0, float("nan"), 3.0))["n"] == 2
    assert spread(measurement(float("nan")))["bars"] == []


def test_the_last_measurement_or_one_that_is_asked_for(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    path = folder / "heldout.jsonl"
    assert read_measurement(path, None) == ([], None)
    examples(folder, ["a", "b"], [[3, 5], [5, 3]])
    measured(folder, 0, margin=[0.0, None])
    measured(folder, 10, margin=[1.0, -1.0])
    steps, last = read_measurement(path, None)
    assert steps == [0, 10]
    assert last is not None
    assert (last.step, last.values.tolist()) == (10, [1.0, -1.0])
    first = read_measurement(path, 0)[1]
    assert first is not None
    np.testing.assert_array_equal(first.values, [0.0, np.nan])
    assert read_measurement(path, 5)[1] is None


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "values", "step": 1, "margin": [1.0]},
        {"kind": "values", "step": 1, "margin": "ab"},
        {"kind": "values", "step": "1", "margin": [1.0, 2.0]},
        {"kind": "values", "step": 1, "margin": [1.0, "2"]},
        {"kind": "examples", "ids": ["a"], "tokens": [[1], [2]]},
        {"kind": "examples", "ids": [1, 2], "tokens": [[1], [2]]},
        {"kind": "examples"},
        [],
        "x",
    ],
)
def test_odd_lines_are_passed_over(tmp_path: Path, odd: Any) -> None:
    folder = begin(tmp_path)
    examples(folder, ["a", "b"], [[3, 5], [5, 3]])
    write(folder, odd, file="heldout.jsonl")
    measured(folder, 2, margin=[1.0, 2.0])
    with (folder / "heldout.jsonl").open("ab") as file:
        file.write(b'\xff\x00\n{"kind": "val')
    steps, found = read_measurement(folder / "heldout.jsonl", None)
    assert steps == [2]
    assert found is not None
    assert found.values.tolist() == [1.0, 2.0]


def pair(number: int, source: str) -> Example:
    sides = tuple(Completion((Message("assistant", word),)) for word in ("yes", "no"))
    prompt = (Message("user", f"Question {number}?"),)
    return Example(prompt, sides, provenance=(Provenance(source, number),))


def test_slices_of_pairs_by_source_and_length(tmp_path: Path) -> None:
    """Twelve pairs: all six from `a` are ranked right, with a longer chosen one; none from `b`."""
    folder = begin(tmp_path)
    pairs = [pair(n, "a" if n < 6 else "b") for n in range(12)]
    (folder / "snapshot").mkdir()
    write_parquet(folder / "snapshot" / "heldout.parquet", pairs)
    ids = [one.id for one in pairs]
    examples(folder, ids, [[9, 3]] * 6 + [[3, 9]] * 6)
    measured(folder, 4, margin=[2.0] * 6 + [-1.0] * 6)
    found = Spreads().of(folder)
    assert found is not None
    rows = {row[0]: row[1:] for row in found["slices"]}
    assert set(rows) == {
        "length: chosen longer",
        "length: rejected longer",
        "source: a",
        "source: b",
    }
    assert rows["source: a"][0] == "6"
    assert rows["source: a"][1].startswith("100")
    assert rows["source: b"][1].startswith("0")
    assert rows["length: chosen longer"][2] == "2.0"


def test_it_is_made_anew_when_the_file_grows(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    spreads = Spreads()
    assert spreads.of(folder) is None
    examples(folder, ["a", "b"], [[3, 5], [5, 3]])
    measured(folder, 0, reward=[0.25, 0.75])
    first = spreads.of(folder)
    assert first is not None
    assert (first["step"], first["name"]) == (0, "reward")
    assert spreads.of(folder) is first
    measured(folder, 8, reward=[0.5, 1.0])
    again = spreads.of(folder)
    assert again is not None
    assert again["steps"] == [0, 8]
    assert again["slices"] == []
