"""Which measurement is the best, and how long one waits for a better one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.tasks import STEPS, assert_same, make_task, outcome, train, weights_of
from torch import Tensor

from palate.config import ConfigError
from palate.losses.registry import METHODS
from palate.train import loop, packing
from palate.train.heldout import Measured
from palate.train.loop import run_loop
from palate.train.metrics import read_metrics
from palate.train.packing import measured, pack_heldout
from palate.train.selection import Selection, check_selectable
from palate.train.task import Task, Watcher


def means(accuracy: float, loss: float) -> dict[str, float]:
    return {"accuracy": accuracy, "loss": loss, "margin": 7.0}


def judged(choice: Selection, *values: tuple[float, float]) -> list[bool]:
    return [choice.judge(10 * step, means(*value)) for step, value in enumerate(values)]


def test_by_accuracy_then_loss_then_the_first() -> None:
    choice = Selection("accuracy")
    values = [(0.5, 0.9), (0.5, 0.7), (0.5, 0.7), (0.6, 2.0), (0.6, 2.5), (0.4, 0.1)]
    assert judged(choice, *values) == [True, True, False, True, False, False]
    assert (choice.step, choice.means, choice.since) == (30, means(0.6, 2.0), 2)


def test_by_loss_alone() -> None:
    choice = Selection("loss")
    assert judged(choice, (0.5, 0.9), (0.9, 1.0), (0.1, 0.8)) == [True, False, True]
    assert choice.step == 20


def test_loss_needs_no_accuracy() -> None:
    choice = Selection("loss")
    assert choice.judge(1, {"loss": 2.0})
    assert not choice.judge(2, {"loss": 2.0})


def test_nothing_is_chosen_where_nothing_was_asked_or_measured() -> None:
    plain = Selection()
    assert judged(plain, (0.5, 0.9), (0.9, 0.1)) == [False, False]
    assert plain.step is None
    assert not plain.enough
    choice = Selection("loss", 1)
    assert not choice.judge(1, {})
    assert choice.step is None
    assert not choice.enough


def test_enough_after_that_many_in_a_row() -> None:
    choice = Selection("accuracy", patience=2)
    seen = []
    for step, accuracy in enumerate((0.5, 0.4, 0.6, 0.5, 0.6)):
        choice.judge(step, means(accuracy, 1.0))
        seen.append(choice.enough)
    assert seen == [False, False, False, False, True]


def test_its_state_travels_through_json() -> None:
    choice = Selection("accuracy", patience=2)
    judged(choice, (0.5, 0.9), (0.4, 0.9))
    again = Selection("accuracy", patience=2)
    again.restore(json.loads(json.dumps(choice.to_json())))
    assert again == choice
    for one in (choice, again):
        assert not one.judge(20, means(0.5, 0.9))
        assert one.enough
    again.restore({})
    assert again == choice
    # an exact tie after a restart is a tie still
    third = Selection("loss")
    third.judge(0, {"loss": 0.1 + 0.2})
    fourth = Selection("loss")
    fourth.restore(json.loads(json.dumps(third.to_json())))
    assert not fourth.judge(1, {"loss": 0.1 + 0.2})


@pytest.mark.parametrize(
    ("by", "method", "heldout", "said"),
    [
        ("accuracy", "dpo", 0, "needs held-out examples: set data.heldout above 0"),
        ("loss", "sft", 0, "needs held-out examples"),
        ("accuracy", "sft", 3, "sft has no accuracy: use train.best=loss"),
        ("accuracy", "pretrain", 3, "pretrain has no accuracy: use train.best=loss"),
    ],
)
def test_what_cannot_be_measured_is_refused(by: str, method: str, heldout: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_selectable(by, METHODS[method], heldout)
    check_selectable(None, METHODS[method], heldout)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_other_method_can_be_selected(method: str) -> None:
    if METHODS[method].data == "prompt":
        check_selectable("reward", METHODS[method], 3)
        with pytest.raises(ConfigError, match="no held-out loss: use train"):
            check_selectable("loss", METHODS[method], 3)
        return
    check_selectable("loss", METHODS[method], 3)
    if METHODS[method].shape in {"pair", "labelled"}:
        check_selectable("accuracy", METHODS[method], 3)


# --- in the loop ------------------------------------------------------------------------


def heldout_lines(task: Task) -> dict[int, dict[str, Any]]:
    lines = read_metrics(task.folder / "metrics.jsonl")
    return {line["step"]: line for line in lines if line["kind"] == "heldout"}


def steps_kept(task: Task) -> set[int]:
    return {int(p.name.removeprefix("step-")) for p in task.checkpoints.iterdir()}


def forced(monkeypatch: pytest.MonkeyPatch, accuracy: dict[int, float]) -> None:
    """Held-out accuracies as given, by step; the loss is what they lack to 1."""
    at, measure = [0], loop._Loop._measure

    def noted(self: Any, step: int) -> bool:
        at[0] = step
        return measure(self, step)

    def found(*_: object) -> Measured:
        return Measured(3, {"accuracy": accuracy[at[0]], "loss": 1 - accuracy[at[0]]})

    monkeypatch.setattr(loop._Loop, "_measure", noted)
    monkeypatch.setattr(packing, "measured", found)


BEST = {0: 0.5, 1: 0.6, 2: 0.9, 3: 0.7, 4: 0.7, 5: 0.8, 6: 0.4}


def weights_at(folder: Path, step: int, **settings: Any) -> dict[str, Tensor]:
    """What an undisturbed run has after so many steps."""
    task = make_task(folder, save_every=1, keep=10, **settings)
    train(task)
    return load_file(task.checkpoints / f"step-{step}" / "weights.safetensors")


def assert_weights(task: Task, expected: dict[str, Tensor]) -> None:
    found = weights_of(task)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_best_steps_weights_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    forced(monkeypatch, BEST)
    task = make_task(tmp_path / "best", best="accuracy", eval_every=1, keep=1, kind=kind)
    notes: list[str] = []
    progress = run_loop(task, resume=False, watch=Watcher(on_note=notes.append))
    assert (progress.best, progress.steps, progress.stopped) == (2, STEPS, False)
    assert progress.heldout == {"accuracy": 0.9, "loss": pytest.approx(0.1)}
    assert steps_kept(task) == {2, STEPS}, "the best outlives those that are newer"
    assert notes == ["the best measurement was that of step 2: its weights ship"]
    assert_weights(task, weights_at(tmp_path / "plain", 2, eval_every=1, kind=kind))


@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_resumed_after_any_step_the_choice_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    forced(monkeypatch, BEST)
    settings = {"best": "accuracy", "eval_every": 1, "keep": 1, "save_every": 2}
    whole = make_task(tmp_path / "whole", **settings)
    expected = train(whole)
    train(make_task(tmp_path / "again", **settings), stop_after=stop)
    task = make_task(tmp_path / "again", **settings)
    assert train(task, resume=True) == expected
    assert_same(outcome(task), outcome(whole))
    assert {2, STEPS} <= steps_kept(task)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_a_crash_anywhere_changes_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Killed without a checkpoint of its own, right after the measurement of a step."""
    forced(monkeypatch, BEST)
    settings = {"best": "accuracy", "eval_every": 1, "keep": 1, "save_every": 3}
    whole = make_task(tmp_path / "whole", **settings)
    expected = train(whole)
    task = make_task(tmp_path / "again", **settings)

    def crash(step: int, _: object) -> None:
        if step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_loop(task, resume=False, watch=Watcher(on_heldout=crash))
    task = make_task(tmp_path / "again", **settings)
    assert train(task, resume=True) == expected
    assert_same(outcome(task), outcome(whole))


def test_before_training_can_be_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced(monkeypatch, {**BEST, 0: 1.0})
    settings = {"best": "accuracy", "eval_every": 1, "keep": 1}
    untrained = weights_of(make_task(tmp_path / "untrained"))
    for stop in (None, 1, 4):
        folder = tmp_path / f"stopped-{stop}"
        if stop is not None:
            train(make_task(folder, **settings), stop_after=stop)
        task = make_task(folder, **settings)
        progress = train(task, resume=stop is not None)
        assert progress.best == 0
        assert progress.heldout["accuracy"] == 1
        assert_weights(task, untrained)
        assert steps_kept(task) == {0, STEPS}


def test_the_last_step_can_be_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced(monkeypatch, {**BEST, 6: 0.95})
    task = make_task(tmp_path / "best", best="accuracy", eval_every=1)
    assert train(task).best == STEPS
    plain = make_task(tmp_path / "plain")
    train(plain)
    assert_weights(task, weights_of(plain))


def test_by_loss_on_real_measurements(tmp_path: Path) -> None:
    task = make_task(tmp_path, best="loss", eval_every=1, save_every=1, keep=9)
    progress = train(task)
    lines = heldout_lines(task)
    assert progress.best == min(lines, key=lambda step: (lines[step]["loss"], step))
    assert progress.heldout["loss"] == pytest.approx(lines[progress.best]["loss"], rel=1e-6)
    again = measured(task, pack_heldout(task), state_at(task, progress.best)).means
    assert again["loss"] == pytest.approx(lines[progress.best]["loss"], rel=1e-6)


def state_at(task: Task, step: int) -> dict[str, Tensor]:
    return load_file(task.checkpoints / f"step-{step}" / "method.safetensors")


def test_enough_measurements_without_a_better_one_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best at step 2, then 3 and 4 are no better: with patience 2 the run ends after step 4."""
    forced(monkeypatch, BEST)
    settings = {"best": "accuracy", "patience": 2, "eval_every": 1, "keep": 1, "log_every": 3}
    task = make_task(tmp_path / "best", **settings)
    notes: list[str] = []
    progress = run_loop(task, resume=False, watch=Watcher(on_note=notes.append))
    assert (progress.best, progress.steps, progress.stopped) == (2, 4, True)
    assert "stopped after step 4: no measurement since step" in notes[0]
    assert steps_kept(task) == {2, 4}
    assert_weights(task, weights_at(tmp_path / "plain", 2, eval_every=1))
    lines = read_metrics(task.folder / "metrics.jsonl")
    rates = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in rates] == [1, 3, 4], "no step is left out of the totals"
    assert [line["examples"] for line in rates] == [4, 4 + 2, 4]
    # Killed before anything was done with it, and continued, also with more epochs: the end
    # was reached.
    for epochs in (2.0, 4.0):
        again = make_task(tmp_path / "best", epochs=epochs, **settings)
        assert train(again, resume=True) == progress
        assert_weights(again, weights_at(tmp_path / f"plain-{epochs}", 2, eval_every=1))
        assert read_metrics(task.folder / "metrics.jsonl") == lines


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_patience_goes_on_counting_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    forced(monkeypatch, BEST)
    settings = {"best": "accuracy", "patience": 2, "eval_every": 1}
    train(make_task(tmp_path, **settings), stop_after=stop)
    progress = train(make_task(tmp_path, **settings), resume=True)
    assert (progress.best, progress.steps, progress.stopped) == (2, 4, True)


def test_without_best_the_last_steps_weights_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, BEST)
    task = make_task(tmp_path / "none", eval_every=1, keep=1)
    progress = train(task)
    assert progress.best is None
    assert steps_kept(task) == {STEPS}
