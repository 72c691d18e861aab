"""Interrupted anywhere and continued, a run is the run it would have been, bit for bit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import (
    MOVING,
    STEPS,
    Outcome,
    assert_same,
    make_task,
    make_thumbs_task,
    outcome,
    pair,
    train,
    weights_of,
)

from palate.losses.registry import METHODS
from palate.tokens.sampler import Sampler
from palate.train.heldout import Measured
from palate.train.loop import run_loop
from palate.train.metrics import read_metrics
from palate.train.packing import measured, pack_heldout
from palate.train.task import Interrupted, Split, Watcher


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    @functools.cache
    def run(**settings: Any) -> Outcome:
        task = make_task(tmp_path_factory.mktemp("whole"), **settings)
        train(task)
        return outcome(task)

    return run


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_interrupted_after_any_step(
    tmp_path: Path, uninterrupted: Callable[..., Outcome], step: int
) -> None:
    assert train(make_task(tmp_path), stop_after=step).steps == step
    task = make_task(tmp_path)
    progress = train(task, resume=True)
    assert progress.steps == STEPS
    assert progress.heldout == pytest.approx(
        {k: v for k, v in outcome(task)[3][-1].items() if k not in {"kind", "step", "n"}}
    )
    assert_same(outcome(task), uninterrupted())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_interrupted_twice_in_every_precision(
    tmp_path: Path, uninterrupted: Callable[..., Outcome], kind: str, precision: str
) -> None:
    settings = {"kind": kind, "precision": precision}
    train(make_task(tmp_path, **settings), stop_after=1)
    train(make_task(tmp_path, **settings), resume=True, stop_after=3)
    task = make_task(tmp_path, **settings)
    train(task, resume=True)
    assert_same(outcome(task), uninterrupted(**settings))


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_interrupted_between_two_lines_of_the_metrics(
    tmp_path: Path, uninterrupted: Callable[..., Outcome], step: int
) -> None:
    settings = {"log_every": 3, "eval_every": 0}
    train(make_task(tmp_path, **settings), stop_after=step)
    task = make_task(tmp_path, **settings)
    train(task, resume=True)
    assert_same(outcome(task), uninterrupted(**settings))


def test_killed_after_lines_that_no_checkpoint_covers(
    tmp_path: Path, uninterrupted: Callable[..., Outcome]
) -> None:
    """A crash in step 5, with a checkpoint of step 3 only, and one before any checkpoint."""
    for first, covered in ((5, 3), (2, 0)):
        folder = tmp_path / str(first)
        task = make_task(folder, save_every=3)
        seen: list[int] = []

        def crash(step: int, *_: object, seen: list[int] = seen, at: int = first) -> None:
            seen.append(step)
            if step == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_loop(task, resume=False, watch=Watcher(on_step=crash))
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "train", "ste')
        again = make_task(folder, save_every=3)
        steps: list[int] = []
        run_loop(again, resume=True, watch=Watcher(on_step=lambda s, *_: steps.append(s)))  # noqa: B023
        assert steps == list(range(covered + 1, STEPS + 1))
        assert_same(outcome(again), uninterrupted())


def test_a_run_that_is_at_its_end_is_only_measured_again(
    tmp_path: Path, uninterrupted: Callable[..., Outcome]
) -> None:
    """Whatever failed after training: the last held-out line is there once."""
    first = make_task(tmp_path)
    whole = train(first)
    task = make_task(tmp_path)
    steps: list[int] = []
    progress = run_loop(task, resume=True, watch=Watcher(on_step=lambda s, *_: steps.append(s)))
    assert steps == []
    assert progress.heldout == whole.heldout
    assert_same(outcome(task), uninterrupted())


def test_a_damaged_checkpoint_is_passed_over_and_named(
    tmp_path: Path, uninterrupted: Callable[..., Outcome]
) -> None:
    train(make_task(tmp_path, save_every=2, keep=1), stop_after=4)
    train(make_task(tmp_path, save_every=2, keep=2), resume=True, stop_after=1)
    newest = tmp_path / "checkpoints" / "step-5" / "weights.safetensors"
    body = bytearray(newest.read_bytes())
    body[-1] ^= 1
    newest.write_bytes(bytes(body))
    notes: list[str] = []
    task = make_task(tmp_path, save_every=1, keep=1)
    run_loop(task, resume=True, watch=Watcher(on_note=notes.append))
    assert "damaged" in notes[0]
    assert "step-5" in notes[0]
    assert "weights.safetensors" in notes[0]
    assert "continuing after step 4" in notes[1]
    assert_same(outcome(task), uninterrupted())
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-5.damaged", f"step-{STEPS}"]


def test_fewer_steps_than_the_checkpoint_has(tmp_path: Path) -> None:
    train(make_task(tmp_path), stop_after=4)
    with pytest.raises(ValueError, match=r"step-4 is past the 3 steps.*max_steps"):
        train(make_task(tmp_path, max_steps=3), resume=True)


def test_without_resume_nothing_is_read(
    tmp_path: Path, uninterrupted: Callable[..., Outcome]
) -> None:
    train(make_task(tmp_path), stop_after=4)
    task = make_task(tmp_path)
    train(task, resume=False)
    assert_same(outcome(task), uninterrupted())


def test_a_loss_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    reference = task.train.reference
    assert reference is not None
    bad = replace(task, train=Split(task.train.examples, lambda m: reference(m) * math.nan))
    before = weights_of(bad)
    with pytest.raises(FloatingPointError, match=r"loss is nan on examples \[\d"):
        train(bad)
    for name, weight in weights_of(bad).items():
        assert torch.equal(weight, before[name])
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_the_lines_and_their_sums(tmp_path: Path) -> None:
    """10 examples, 4 a step, 2 epochs, a line every 4 steps: at 1 (always), 4 and 6."""
    task = make_task(tmp_path, log_every=4, eval_every=4)
    train(task)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("heldout", 0),
        ("train", 1),
        ("train", 4),
        ("heldout", 4),
        ("train", 6),
        ("heldout", 6),
    ]
    rates = [line for line in lines if line["kind"] == "train"]
    assert [line["examples"] for line in rates] == [4, 4 + 2 + 4, 4 + 2]
    assert [line["epoch"] for line in rates] == pytest.approx([1 / 3, 4 / 3, 2])
    assert sum(line["path_tokens"] for line in rates) == 2 * sum(
        len(branch.ids) for i in range(10) for branch in pair(i).branches
    )
    each = make_task(tmp_path / "each", log_every=1, eval_every=0)
    train(each)
    single = [x for x in read_metrics(tmp_path / "each" / "metrics.jsonl") if x["kind"] == "train"]
    sizes = [line["examples"] for line in single]
    assert sizes == [4, 4, 2, 4, 4, 2]
    # Means by example over steps 2 to 4, where the batch of 2 counts for half a batch of 4.
    margin = sum(m["margin"] * n for m, n in zip(single[1:4], sizes[1:4], strict=True)) / 10
    assert rates[1]["margin"] == pytest.approx(margin, rel=1e-6)
    loss = sum(m["loss"] for m in single[1:4]) / 3
    assert rates[1]["loss"] == pytest.approx(loss, rel=1e-6)
    unique = sum(m["unique_tokens"] for m in single)
    assert sum(line["unique_tokens"] for line in rates) == unique


def test_the_time_of_measuring_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.train import loop, packing

    clock = 0.0

    def slow(*_: object) -> Measured:
        nonlocal clock
        clock += 1000.0
        return Measured(3, {"loss": 0.0})

    monkeypatch.setattr(packing, "measured", slow)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock)
    train(make_task(tmp_path, eval_every=1, log_every=2))
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [x["seconds"] for x in lines if x["kind"] == "train"] == [0.0] * 4


def test_the_heldout_means_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    fine = make_task(tmp_path, method=METHODS["dpo"], tokens_per_microbatch=8)
    rough = make_task(tmp_path, method=METHODS["dpo"], tokens_per_microbatch=4000)
    assert len(pack_heldout(fine).batches) == 3
    assert len(pack_heldout(rough).batches) == 1
    means = [measured(task, pack_heldout(task), {}).means for task in (fine, rough)]
    assert means[0] == pytest.approx(means[1], abs=1e-5)


def test_no_heldout_examples(tmp_path: Path) -> None:
    task = replace(make_task(tmp_path, max_steps=1), heldout=Split([], None))
    assert train(task).heldout == {}
    assert [line["kind"] for line in read_metrics(tmp_path / "metrics.jsonl")] == ["train"]


def test_a_stop_at_the_last_step_stops_too(tmp_path: Path) -> None:
    """What follows training takes a while as well; continuing does only that."""
    with pytest.raises(Interrupted) as stopped:
        run_loop(make_task(tmp_path, max_steps=1), resume=False, watch=Watcher(should_stop=bool1))
    assert stopped.value.step == 1
    assert train(make_task(tmp_path, max_steps=1), resume=True).steps == 1


def bool1() -> bool:
    return True


def test_the_state_of_a_method_is_part_of_the_run(tmp_path: Path) -> None:
    """The test's method would give other weights if its state began anew after a stop."""
    task = make_task(tmp_path)
    train(task)
    plain = make_task(tmp_path / "plain", method=METHODS["dpo"])
    train(plain)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(weights_of(task).values(), weights_of(plain).values(), strict=True)
    )
    assert Sampler(10, 4, 5).total_steps(2.0, None) == STEPS
    assert MOVING.initial_state is not None


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("name", ["bco", "beta-dpo", "aot"])
def test_methods_that_couple_examples_go_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Callable[..., Outcome], name: str, step: int
) -> None:
    method = METHODS[name]
    train(make_task(tmp_path, method=method), stop_after=step)
    task = make_task(tmp_path, method=method)
    train(task, resume=True)
    assert_same(outcome(task), uninterrupted(method=method))
    started = method.initial_state(task.params) if method.initial_state else {}
    left = outcome(task)[2]
    assert left.keys() == started.keys()
    assert not any(torch.equal(left[key].double(), started[key].double()) for key in started)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_kto_goes_on_bit_for_bit_in_either_epoch(tmp_path: Path, step: int) -> None:
    """Each epoch has mismatches of its own, which a continued run must find again."""
    whole = make_thumbs_task(tmp_path / "whole")
    train(whole)
    train(make_thumbs_task(tmp_path / "again"), stop_after=step)
    task = make_thumbs_task(tmp_path / "again")
    train(task, resume=True)
    assert_same(outcome(task), outcome(whole))
    drifts = [line["drift"] for line in outcome(whole)[3] if line["kind"] == "train"]
    assert all(drift > 0 for drift in drifts)


def test_z0_is_taken_from_the_epochs_own_mismatches(tmp_path: Path) -> None:
    """Epoch 2 sees what epoch 1 did not: with the first epoch's its steps would differ."""
    task = make_thumbs_task(tmp_path / "own")
    train(task)
    assert task.mismatches is not None
    same = make_thumbs_task(tmp_path / "same")
    first = task.mismatches.train[0]
    train(replace(same, mismatches=replace(task.mismatches, train=[first, first])))
    drifts = [
        [line["drift"] for line in outcome(one)[3] if line["kind"] == "train"]
        for one in (task, same)
    ]
    assert drifts[0][:3] == drifts[1][:3]
    assert all(a != b for a, b in zip(drifts[0][3:], drifts[1][3:], strict=True))
