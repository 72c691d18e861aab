"""A guard on labels that it has not learned from."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.guard.worlds import answers, prompts, write

from palate.config import DataConfig
from palate.curate.prepare import prepare
from palate.guard.measuring import evaluate_guard
from palate.guard.training import Trained
from palate.records import Completion, Example, Message
from palate.store.snapshot import read_snapshot


def read(path: Path, rows: list[dict[str, Any]]) -> list[Example]:
    data = DataConfig(path=str(write(path, rows)), heldout=0)
    return prepare(data, 0, shape="labelled").train


def by_hand(trained: Trained, examples: Iterable[Example]) -> list[tuple[bool, bool]]:
    """(flagged, unsafe) of each, asked one by one."""
    return [
        (trained.guard.check_prompt(one.prompt).unsafe, one.completions[0].label is False)
        for one in examples
    ]


def test_new_rows(trained: Trained, tmp_path: Path) -> None:
    examples = read(tmp_path / "new.jsonl", prompts(40, 600))
    found = evaluate_guard(trained.folder, examples, tmp_path / "page.html")
    asked = by_hand(trained, examples)
    assert (found.figures.unsafe, found.figures.safe) == (15, 25), "5 of 20 that shout are safe"
    assert found.figures.recall.count == sum(flagged and unsafe for flagged, unsafe in asked)
    assert found.figures.fpr.count == sum(flagged and not unsafe for flagged, unsafe in asked)
    assert (found.trained_on, found.calibrated_on, found.unreadable) == (0, 0, {})
    assert found.remarks == []
    assert {one.value for one in found.figures.slices if one.tag == "topic"} == {
        "tea", "rain", "maps", "keys", "moss", "wool"
    }  # fmt: skip
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "40 labelled rows." in page


def test_rows_that_were_trained_on_are_left_out(trained: Trained) -> None:
    data = read_snapshot(trained.folder / "snapshot")
    found = evaluate_guard(trained.folder, [*data.train, *data.heldout])
    assert found.figures.rows == len(data.heldout)
    assert found.trained_on == len(data.train)
    assert found.calibrated_on == len(data.heldout)
    said = " ".join(found.remarks)
    assert f"left out: {len(data.train)} rows whose prompts it was trained on" in said
    assert f"{len(data.heldout)} of the rows calibrated it" in said
    with pytest.raises(ValueError, match="trained on the prompts of all 2 rows"):
        evaluate_guard(trained.folder, data.train[:2])


def test_rows_that_cannot_be_read_are_counted(trained: Trained, tmp_path: Path) -> None:
    examples = read(tmp_path / "new.jsonl", prompts(16, 800))
    long = Example((Message("user", "b" * 3000),), (Completion((), label=False),))
    found = evaluate_guard(trained.folder, [*examples, long])
    assert found.figures.rows == 16
    assert found.unreadable == {"too-long": 1}
    assert "would flag (too-long 1)" in found.remarks[0]


def test_a_copy_cannot_tell_what_it_was_trained_on(trained: Trained, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder, copy, ignore=shutil.ignore_patterns("snapshot"))
    found = evaluate_guard(copy, read(tmp_path / "new.jsonl", prompts(16, 900)))
    assert found.trained_on is None
    assert "nobody can tell" in found.remarks[0]


def test_one_class_and_the_wrong_kind_are_one_line(trained: Trained, tmp_path: Path) -> None:
    safe = read(tmp_path / "safe.jsonl", [{**row, "label": "safe"} for row in prompts(6, 700)])
    with pytest.raises(ValueError, match="all 6 rows are safe"):
        evaluate_guard(trained.folder, safe)
    with pytest.raises(ValueError, match="nobody has measured it on answers"):
        evaluate_guard(trained.folder, read(tmp_path / "answers.jsonl", answers(6)))
