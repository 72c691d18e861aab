"""heldout.jsonl: which value belongs to which example, and what an interruption does to it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.train.tasks import STEPS, make_task, pair, train

from palate.losses.registry import METHODS
from palate.train.heldout import Each, HeldoutFile
from palate.train.metrics import read_metrics
from palate.train.packing import measured, pack_heldout
from palate.train.task import Split


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def each(*ids: str, **values: list[float | None]) -> Each:
    return Each(ids, [[3, 5] for _ in ids], values)


def test_the_examples_are_named_once(tmp_path: Path) -> None:
    file = HeldoutFile(tmp_path / "heldout.jsonl")
    file.append(0, each("a", "b", margin=[0.0, 0.0]))
    file.append(10, each("a", "b", margin=[1 / 3, -2.0]))
    assert lines(file.path) == [
        {"kind": "examples", "ids": ["a", "b"], "tokens": [[3, 5], [3, 5]]},
        {"kind": "values", "step": 0, "margin": [0.0, 0.0]},
        {"kind": "values", "step": 10, "margin": [0.333333, -2.0]},
    ]


def test_other_examples_are_named_anew(tmp_path: Path) -> None:
    file = HeldoutFile(tmp_path / "heldout.jsonl")
    file.append(0, each("a", margin=[0.0]))
    file.append(1, each("b", margin=[1.0]))
    assert [line.get("ids") for line in lines(file.path)] == [["a"], None, ["b"], None]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    file = HeldoutFile(tmp_path / "heldout.jsonl")
    file.append(0, each("a", "b", "c", reward=[math.nan, math.inf, None]))
    assert lines(file.path)[1]["reward"] == [None, None, None]


def test_nothing_is_written_where_nothing_is_kept(tmp_path: Path) -> None:
    for writes, given in ((True, None), (True, each("a")), (False, each("a", margin=[1.0]))):
        file = HeldoutFile(tmp_path / "heldout.jsonl", writes)
        file.append(0, given)
        file.cut_after(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("measured", "left"), [(True, [0, 2]), (False, [0])])
def test_later_measurements_are_forgotten(tmp_path: Path, measured: bool, left: list[int]) -> None:
    path = tmp_path / "heldout.jsonl"
    before = HeldoutFile(path)
    for step in (0, 2, 4):
        before.append(step, each("a", margin=[float(step)]))
    path.write_text(path.read_text() + '{"kind": "val', encoding="utf-8")  # a crash
    file = HeldoutFile(path)
    file.cut_after(2, measured=measured)
    file.append(6, each("a", margin=[6.0]))
    found = lines(path)
    assert [line["kind"] for line in found] == ["examples"] + ["values"] * (len(left) + 1)
    assert [line["step"] for line in found[1:]] == [*left, 6]


@pytest.mark.parametrize("tokens", [8, 4000])
def test_each_value_is_its_examples_whatever_the_cut(tmp_path: Path, tokens: int) -> None:
    """Alone in the held-out set, an example has the margin that it has among the others."""
    task = make_task(tmp_path, method=METHODS["dpo"], tokens_per_microbatch=tokens)
    train(task)
    together = measured(task, pack_heldout(task), {})
    assert together.each is not None
    assert together.each.ids == [pair(i).example_id for i in (10, 11, 12)]
    margins = together.each.values["margin"]
    assert len(set(margins)) == 3, "examples that are alike would prove nothing"
    assert sum(margins) / 3 == pytest.approx(together.means["margin"], rel=1e-6)
    for row, one in enumerate(task.heldout.examples):
        alone = alone_margin(task, row)
        assert margins[row] == pytest.approx(alone, abs=1e-5), one.example_id
    sizes = [[sum(b.mask) for b in one.branches] for one in task.heldout.examples]
    assert together.each.tokens == sizes


def alone_margin(task: Any, row: int) -> float:
    from palate.train.packing import compute, micro_batches
    from palate.train.step import Packed

    batches = micro_batches(task.policy, task.ranks, task.heldout, [row], 4000)
    result = compute(task, Packed(batches, task.heldout.reference), {}, backward=False)
    return float(result.metrics["margin"][0])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interrupted_run_leaves_the_same_file(tmp_path: Path, stop: int) -> None:
    whole = make_task(tmp_path / "whole", method=METHODS["dpo"])
    train(whole)
    broken = make_task(tmp_path / "broken", method=METHODS["dpo"])
    train(broken, stop_after=stop)
    train(make_task(tmp_path / "broken", method=METHODS["dpo"]), resume=True)
    expected = lines(whole.folder / "heldout.jsonl")
    assert lines(broken.folder / "heldout.jsonl") == expected
    measured_at = [line["step"] for line in expected if line["kind"] == "values"]
    told = read_metrics(whole.folder / "metrics.jsonl")
    assert measured_at == [x["step"] for x in told if x["kind"] == "heldout"]
    assert (measured_at[0], measured_at[-1]) == (0, STEPS)


def test_a_method_without_margins_keeps_none(tmp_path: Path) -> None:
    task = make_task(tmp_path, method=METHODS["sft"])
    one = [replace(pair(i), branches=pair(i).branches[:1]) for i in range(13)]
    train(replace(task, train=Split(one[:10], None), heldout=Split(one[10:], None)))
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["kind"] == "heldout"
    assert not (tmp_path / "heldout.jsonl").exists()
