"""How far a run has come, and its row in the list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.ui.runs.folders import begin, dpo_lines, finish, heldout_line, train_line, write

from palate.ui.runs.columns import Table
from palate.ui.runs.states import State
from palate.ui.runs.summary import Rows, method_of, newest_first, progress_of


def train(*lines: dict[str, object]) -> Table:
    table = Table()
    table.add(lines)
    return table


def recipe(**settings: object) -> dict[str, object]:
    return {"train": settings}


def test_the_whole_is_the_smaller_of_steps_and_epochs() -> None:
    """Ten steps are an epoch: 2.5 epochs are 25 steps."""
    table = train(train_line(1), train_line(2))
    assert progress_of(recipe(max_steps=None, epochs=2.5), table).total == 25
    assert progress_of(recipe(max_steps=20, epochs=2.5), table).total == 20
    assert progress_of(recipe(max_steps=90, epochs=2.5), table).total == 25


def test_the_time_left_is_that_of_the_last_steps() -> None:
    """Logged every five steps, ten seconds a line: two seconds a step, for 80 steps more."""
    table = train(*({**train_line(step), "seconds": 10.0} for step in (5, 10, 15, 20)))
    found = progress_of(recipe(max_steps=100, epochs=50), table)
    assert (found.step, found.total, found.left) == (20, 100, 160.0)
    assert found.share == pytest.approx(0.2)
    assert found.facts(going=True)["left_words"] == "about 2 min 40 s left"
    assert found.facts(going=False)["left"] is None


def test_nothing_yet() -> None:
    found = progress_of(recipe(max_steps=10, epochs=1), train())
    assert (found.step, found.total, found.left, found.share) == (None, None, None, None)


@pytest.mark.parametrize("odd", [{}, {"train": 3}, {"train": {"max_steps": "7", "epochs": None}}])
def test_a_recipe_that_says_nothing(odd: dict[str, object]) -> None:
    found = progress_of(odd, train(train_line(3)))
    assert (found.step, found.total, found.left) == (3, None, None)


def test_methods_of_stages_too() -> None:
    assert method_of({"method": {"name": "dpo"}}) == "dpo"
    stages = [{"method": "sft"}, {"method": {"name": "dpo"}}, "odd"]
    assert method_of({"stages": stages}) == "sft → dpo → ?"
    assert method_of({}) == "?"


def test_a_row_says_what_there_is(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    write(folder, heldout_line(0, loss=0.7), *dpo_lines(1, 10), heldout_line(10, loss=0.5))
    rows = Rows()
    row = rows.of("desk", folder, State("running"))
    assert (row["method"], row["model"], row["gate"]) == ("dpo", "tiny", None)
    assert row["headline"] == "Held-out loss: 0.70 → 0.50"
    assert (row["progress"]["step"], row["progress"]["total"]) == (10, 20)
    assert row["progress"]["left"] == 20.0
    assert rows.of("desk", folder, State("stopped"))["progress"]["left"] is None
    finish(folder, heldout={"accuracy": 0.9, "n": 43})
    assert rows.of("desk", folder, State("complete"))["headline"].startswith("Prefers the chosen")


def test_a_long_file_is_read_at_its_ends(tmp_path: Path) -> None:
    folder = begin(tmp_path, steps=5000)
    write(folder, heldout_line(0, loss=0.7), *(train_line(s, loss=1.0) for s in range(1, 4001)))
    write(folder, heldout_line(4000, loss=0.25))
    assert (folder / "metrics.jsonl").stat().st_size > 3 * 2**16
    row = Rows().of("desk", folder, State("running"))
    assert row["progress"]["step"] == 4000
    assert row["headline"] == "Held-out loss: 0.70 → 0.25"


def test_newest_first(tmp_path: Path) -> None:
    for at, name in enumerate(["old", "middle", "new"]):
        os.utime(begin(tmp_path, name) / "config.yaml", (1000 + at, 1000 + at))
    assert [name for name, _ in newest_first(tmp_path)] == ["new", "middle", "old"]


@pytest.mark.parametrize("text", ["", "[1, 2", "train: [\n", "- a\n- b\n", "\x00"])
def test_odd_files_break_no_row(tmp_path: Path, text: str) -> None:
    folder = begin(tmp_path)
    for name in ("config.yaml", "metrics.jsonl", "results.json"):
        (folder / name).write_text(text, encoding="utf-8")
    row = Rows().of("desk", folder, State("unfinished"))
    assert row["headline"] == "Nothing has been measured yet"
    assert row["method"] == "?"
