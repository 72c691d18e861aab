"""metrics.jsonl as a run writes it: followed, cut short, replaced, begun anew."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from palate.ui.runs.metrics import Mark, Metrics


def line(step: int, kind: str = "train", **values: float) -> str:
    return json.dumps({"kind": kind, "step": step, **values}) + "\n"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_only_what_is_new_is_added(path: Path) -> None:
    metrics = Metrics(path)
    append(path, line(0, "heldout", loss=0.7) + line(1, loss=0.6))
    first = metrics.read()
    assert first.rows == (1, 1, 0)
    append(path, line(2, loss=0.5) + line(2, "rollout", reward=0.1))
    second = metrics.read()
    assert second.rows == (2, 1, 1)
    assert second.age == first.age
    assert metrics.table("train").column("loss").tolist() == [0.6, 0.5]
    assert metrics.table("rollout").column("reward").tolist() == [0.1]
    assert metrics.read() == second


def test_a_half_written_line_waits_for_its_end(path: Path) -> None:
    metrics = Metrics(path)
    whole = line(1, loss=0.6)
    append(path, whole + whole.replace("1", "2")[:9])
    assert metrics.read().rows == (1, 0, 0)
    append(path, line(2, loss=0.5)[9:])
    assert metrics.read().rows == (2, 0, 0)
    assert metrics.odd == 0


def test_lines_that_are_none_are_counted_and_passed_over(path: Path) -> None:
    bad = ["{", "[]", "7", '{"kind": "train"}', '{"kind": "other", "step": 1}', "\x00\xff"]
    bad += ['{"kind": "train", "step": "1"}', '{"kind": "train", "step": true}', "[" * 100_000]
    bad += ['{"kind": "train", "step": 1e400}', '{"kind": ["train"], "step": 1}']
    append(path, "\n".join(bad) + "\n\n" + line(1, loss=0.5))
    metrics = Metrics(path)
    assert metrics.read().rows == (1, 0, 0)
    assert metrics.odd == len(bad)


def test_a_diverged_run_is_told_as_it_is(path: Path) -> None:
    """Python writes NaN and Infinity into JSON; the reader takes them."""
    append(path, line(1, loss=math.nan, grad_norm=math.inf) + line(2, loss=0.5, grad_norm=1.0))
    metrics = Metrics(path)
    metrics.read()
    assert math.isnan(metrics.table("train").column("loss")[0])
    assert metrics.table("train").column("grad_norm").tolist() == [math.inf, 1.0]
    assert [line["step"] for line in metrics.unbounded] == [1]
    assert metrics.odd == 0


def test_a_resumed_run_that_cuts_its_file_is_read_again(path: Path) -> None:
    """`cut_after` replaces the file with the lines up to the checkpoint."""
    from palate.train.metrics import MetricsFile  # the only one here that needs torch

    metrics = Metrics(path)
    append(path, "".join(line(step, loss=float(step)) for step in range(1, 8)))
    before = metrics.read()
    MetricsFile(path).cut_after(4)
    append(path, line(5, loss=50.0))
    after = metrics.read()
    assert after.age != before.age
    assert metrics.table("train").steps.tolist() == [1, 2, 3, 4, 5]
    assert metrics.table("train").column("loss")[4] == 50


def test_a_repeated_step_counts_once(path: Path) -> None:
    metrics = Metrics(path)
    append(path, line(1, loss=1.0) + line(2, loss=2.0))
    before = metrics.read()
    append(path, line(2, loss=20.0))
    after = metrics.read()
    assert metrics.table("train").column("loss").tolist() == [1.0, 20.0]
    assert after.rows == before.rows
    assert after.changed == before.changed + 1


@pytest.mark.parametrize("longer", [False, True])
def test_another_file_in_the_same_inode_is_noticed(path: Path, longer: bool) -> None:
    """Truncated and written again: the identity stays, and here perhaps even the length."""
    old = "".join(line(step, loss=0.5) for step in range(1, 6))
    new = "".join(line(step, loss=0.25) for step in range(1, 9 if longer else 3))
    append(path, old)
    metrics = Metrics(path)
    before = metrics.read()
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(new.encode())
    after = metrics.read()
    assert after.age != before.age
    assert set(metrics.table("train").column("loss").tolist()) == {0.25}


def test_moved_aside_and_begun_anew(path: Path) -> None:
    append(path, line(1, loss=0.5))
    metrics = Metrics(path)
    before = metrics.read()
    path.rename(path.with_name("aside"))
    gone = metrics.read()
    assert gone.rows == (0, 0, 0)
    assert gone.age != before.age
    assert metrics.read() == gone, "nothing happened since"
    append(path, line(1, loss=0.25))
    metrics.read()
    assert metrics.table("train").column("loss").tolist() == [0.25]


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "binary"])
def test_a_file_that_is_none_is_empty(path: Path, what: str) -> None:
    if what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()
    elif what == "binary":
        path.write_bytes(os.urandom(5000).replace(b"\n", b""))
    assert Metrics(path).read().rows == (0, 0, 0)


def test_a_line_longer_than_a_piece_is_passed_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.ui.runs.metrics._PIECE", 100)
    append(path, line(1, loss=1.0) + "x" * 350 + "\n" + line(2, loss=2.0))
    metrics = Metrics(path)
    metrics.read()
    assert metrics.table("train").steps.tolist() == [1, 2]


def test_many_pieces_are_one_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, "".join(line(step, loss=step / 2) for step in range(1, 200)))
    monkeypatch.setattr("palate.ui.runs.metrics._PIECE", 100)
    metrics = Metrics(path)
    assert metrics.read().rows == (199, 0, 0)
    assert metrics.table("train").column("loss").tolist() == [s / 2 for s in range(1, 200)]
    assert metrics.odd == 0


def test_a_mark_comes_back_from_its_text() -> None:
    mark = Mark("abc", (3, 2, 1), 4)
    assert Mark.read(mark.text()) == mark
    for text in (
        "",
        "abc",
        "abc.1.2.3",
        "abc.1.2.3.4.5",
        "abc.1.2.x.4",
        "abc.-1.2.3.4",
        "a.².1.1.1",
    ):
        assert Mark.read(text) is None, text


def test_half_a_character_is_no_metrics(path: Path) -> None:
    """Python writes and reads it, and no answer of the site could hold it."""
    metrics = Metrics(path)
    append(path, line(1, loss=0.6) + line(2, **{"half \ud800": math.nan}) + line(3, loss=math.nan))
    metrics.read()
    assert metrics.odd == 1
    assert [one["step"] for one in metrics.unbounded] == [3]
    assert metrics.table("train").rows == 2
