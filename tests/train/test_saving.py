"""Saving beside the training: what is handed over is what is kept, and no error is lost."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import STEPS, make_task
from tests.train.test_checkpoint import names, setup, step

from palate.durable import commit_folder, verify_folder
from palate.train import checkpoint, saving
from palate.train.loop import run_loop
from palate.train.saving import Saver
from palate.train.task import Watcher

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Writers wait until the function that is given is called, or the block ends."""
    gate = threading.Event()

    def waiting(*args: Any, **kwargs: Any) -> None:
        assert gate.wait(60)
        commit_folder(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "commit_folder", waiting)
        try:
            yield gate.set
        finally:
            gate.set()


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The disk is full at one step's checkpoint."""

    def write(target: Path, *rest: Any, **kwargs: Any) -> None:
        if target.name == f"step-{number}":
            raise FULL
        commit_folder(target, *rest, **kwargs)

    monkeypatch.setattr(checkpoint, "commit_folder", write)


def test_what_was_handed_over_is_kept_whatever_happens_to_it_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, optimizer = setup()
    step(weights, optimizer, 1)
    state, waiting = {"ema": torch.ones(2)}, {"best": {"step": None}}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    moments = {n: optimizer.state[w]["exp_avg"].clone() for n, w in weights.items()}
    saver = Saver(tmp_path, keep=2)
    with held(monkeypatch) as go:
        saver.save(1, weights, optimizer, state, waiting)
        assert names(tmp_path) == []
        step(weights, optimizer, 2)
        state["ema"].zero_()
        waiting["best"]["step"] = 7  # type: ignore[assignment]
        go()
        saver.settle()
    other, fresh = setup(seed=9)
    found = checkpoint.load_latest(tmp_path, other, fresh)
    assert found is not None
    assert (found.step, found.waiting) == (1, {"best": {"step": None}})
    assert torch.equal(found.state["ema"], torch.ones(2))
    for name, weight in other.items():
        assert torch.equal(weight, before[name])
        assert not torch.equal(weight, weights[name])
        assert torch.equal(fresh.state[weight]["exp_avg"], moments[name])
        assert int(fresh.state[weight]["step"]) == 1


def test_training_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 0's writer is let go by the last step: a loop that waited would wait for ever."""
    begun: list[int] = []
    real = Saver.save

    def save(self: Saver, number: int, *rest: Any) -> None:
        begun.append(number)
        real(self, number, *rest)

    monkeypatch.setattr(Saver, "save", save)
    task = make_task(tmp_path, save_every=STEPS, log_every=1, eval_every=100, best="accuracy")
    with held(monkeypatch) as go:
        watch = Watcher(on_step=lambda at, total, means: go() if at == STEPS else None)
        run_loop(task, resume=False, watch=watch)
    assert begun == [0, STEPS]
    assert names(tmp_path / "checkpoints") == ["step-0", f"step-{STEPS}"]


def test_one_is_written_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, optimizer = setup()
    step(weights, optimizer, 1)
    saver = Saver(tmp_path, keep=5)
    with held(monkeypatch) as go:
        saver.save(1, weights, optimizer, {}, {})
        second = threading.Thread(target=saver.save, args=(2, weights, optimizer, {}, {}))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        go()
        second.join(60)
        saver.settle()
    assert names(tmp_path) == ["step-1", "step-2"]


@pytest.mark.parametrize("met", ["check", "settle", "save"])
def test_an_error_of_the_disk_is_raised_once_and_the_one_before_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, met: str
) -> None:
    weights, optimizer = setup()
    step(weights, optimizer, 1)
    saver = Saver(tmp_path, keep=2)
    saver.save(1, weights, optimizer, {}, {})
    saver.settle()
    failing(monkeypatch, 2)
    saver.save(2, weights, optimizer, {}, {})
    assert saver._thread is not None
    saver._thread.join()
    with pytest.raises(OSError, match="No space left") as raised:
        saver.save(3, weights, optimizer, {}, {}) if met == "save" else getattr(saver, met)()
    assert raised.value.errno == errno.ENOSPC
    saver.check()
    saver.settle()
    assert saver.close() is None
    assert names(tmp_path) == ["step-1"]
    verify_folder(tmp_path / "step-1")


def test_a_check_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, optimizer = setup()
    step(weights, optimizer, 1)
    saver = Saver(tmp_path, keep=2)
    with held(monkeypatch) as go:
        saver.save(1, weights, optimizer, {}, {})
        saver.check()
        assert names(tmp_path) == []
        go()
        assert saver.close() is None
    assert names(tmp_path) == ["step-1"]


def test_without_memory_for_a_copy_the_loop_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tensors of 8 floats with two moments and a step each are 3 x (8 + 16 + 1) x 4 bytes."""
    weights, optimizer = setup()
    step(weights, optimizer, 1)
    held_bytes = sum(4 * 3 * weight.numel() + 4 for weight in weights.values())
    saver = Saver(tmp_path, keep=2)
    monkeypatch.setattr(saving, "free_memory", lambda: 4 * held_bytes - 1)
    saver.save(1, weights, optimizer, {}, {})
    assert saver._thread is None
    assert names(tmp_path) == ["step-1"]
    monkeypatch.setattr(saving, "free_memory", lambda: 4 * held_bytes)
    saver.save(2, weights, optimizer, {}, {})
    assert saver._thread is not None
    saver.settle()
    assert names(tmp_path) == ["step-1", "step-2"]


def test_a_full_disk_ends_the_loop_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 2's checkpoint fails; the loop comes no further than the step that begins after."""
    failing(monkeypatch, 2)
    seen: list[int] = []
    real = Saver._begin

    def at_once(self: Saver, work: Callable[[], None]) -> None:
        real(self, work)
        assert self._thread is not None
        self._thread.join()

    monkeypatch.setattr(Saver, "_begin", at_once)
    watch = Watcher(on_step=lambda at, total, means: seen.append(at))
    task = make_task(tmp_path, save_every=1, log_every=1)
    with pytest.raises(OSError, match="No space left"):
        run_loop(task, resume=False, watch=watch)
    assert seen == [1, 2]
    assert names(tmp_path / "checkpoints") == ["step-1"]


def fails_in_step_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]
) -> list[str]:
    """Step 3 fails while `write` is at step 2's checkpoint; returns what the loop noted."""
    gate = threading.Event()
    notes: list[str] = []

    def slow(*args: Any, **kwargs: Any) -> None:
        assert gate.wait(60)
        write(*args, **kwargs)

    def on_step(at: int, total: int, means: dict[str, float]) -> None:
        if at == 3:
            threading.Timer(0.1, gate.set).start()
            raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(checkpoint, "commit_folder", slow)
    task = make_task(folder, save_every=2, log_every=1, eval_every=0)
    with pytest.raises(FloatingPointError):
        run_loop(task, resume=False, watch=Watcher(on_step=on_step, on_note=notes.append))
    return notes


def test_an_error_of_training_lets_the_last_save_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fails_in_step_3(tmp_path, monkeypatch, commit_folder) == []
    assert names(tmp_path / "checkpoints") == ["step-2"]


def test_after_an_error_of_training_that_of_the_disk_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise FULL

    notes = fails_in_step_3(tmp_path, monkeypatch, full)
    assert len(notes) == 1
    assert "No space left" in notes[0]
