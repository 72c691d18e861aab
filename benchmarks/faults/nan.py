"""NaN or infinity in the loss, or in a weight's gradient, at a random step of one process."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tests.train.tasks import make_task, train, weights_of
from torch import Tensor

from palate.model.adapters import trainable
from palate.train.checkpoint import list_checkpoints, read_tensors
from palate.train.loop import run_loop
from palate.train.metrics import read_metrics
from palate.train.task import Task, Watcher

FAULT = "NaN or infinity in the loss or in a gradient"
HOLDS = (
    "the run stops and names the step's examples; weights, moments and checkpoints are those of "
    "before it; continued, it ends as an undisturbed run does, bit for bit"
)
TRIALS = 40
STEPS, SAVE_EVERY = 12, 2


def trial(number: int, folder: Path) -> dict[str, object]:
    """A value, a place and a step that the number draws."""
    chance = random.Random(number)
    step, value = chance.randint(1, STEPS), chance.choice([math.nan, math.inf, -math.inf])
    place, kind = ("loss", "gradient")[number % 2], chance.choice(["lora", "full"])
    task, at = _task(folder / "bad", kind), [0]  # the last step that was taken
    poison = _in_the_loss if place == "loss" else _in_a_gradient
    said = _stopped(poison(task, value, lambda: at[0] == step - 1, chance), at)
    words = re.fullmatch(r"the (loss|gradient norm) is (nan|-?inf) on examples (\[.*\])", said)
    assert words, said
    rows, named = sorted(task.sampler.batch(step - 1)), json.loads(words[3])
    assert named, said  # of a loss, those of the micro-batches that it came from
    assert set(named) <= set(rows), f"{said}: the step's examples are {rows}"
    before = _task(folder / "before", kind)
    if step > 1:
        train(before, stop_after=step - 1)
    assert _equal(weights_of(task), weights_of(before)), "the weights are not those of before"
    _check_folder(task, step)
    again, whole = _task(folder / "bad", kind), _task(folder / "whole", kind)
    train(again, resume=True)
    train(whole)
    assert _equal(weights_of(again), weights_of(whole)), "continued, it ends otherwise"
    return {"step": step, "value": str(value), "in": place, "run": kind, "said": said}


def _check_folder(task: Task, step: int) -> None:
    """The checkpoints and metrics of before the step, all of them finite."""
    saved, newest = list_checkpoints(task.checkpoints), (step - 1) // SAVE_EVERY * SAVE_EVERY
    expected = [f"step-{newest}"] if newest else []
    assert [path.name for path in saved[-1:]] == expected, f"{saved} instead of {expected}"
    for one in saved:
        for file in ("weights", "optimizer", "method"):
            values = read_tensors(one, file).values()
            assert all(bool(torch.isfinite(v).all()) for v in values), f"{one} is poisoned"
    lines = read_metrics(task.folder / "metrics.jsonl")
    assert max((x["step"] for x in lines if x["kind"] == "train"), default=0) == step - 1


def _task(folder: Path, kind: str) -> Task:
    return make_task(folder, kind=kind, epochs=4.0, save_every=SAVE_EVERY, eval_every=4)


def _stopped(task: Task, at: list[int]) -> str:
    def told(step: int, *_: object) -> None:
        at[0] = step

    try:
        run_loop(task, resume=False, watch=Watcher(on_step=told))
    except FloatingPointError as error:
        return str(error)
    raise AssertionError("it went on")


def _in_the_loss(task: Task, value: float, now: Callable[[], bool], chance: random.Random) -> Task:
    """One example's loss is `value` then."""
    real = task.method.loss

    def loss(sides: Any, params: Any, context: Any) -> Any:
        found = real(sides, params, context)
        if not (now() and torch.is_grad_enabled()):  # else it is a measurement
            return found
        bad = torch.zeros_like(found.loss_B)
        bad[chance.randrange(len(bad))] = value
        return replace(found, loss_B=found.loss_B + bad)

    return replace(task, method=replace(task.method, loss=loss))


def _in_a_gradient(
    task: Task, value: float, now: Callable[[], bool], chance: random.Random
) -> Task:
    """One entry of one weight's gradient is `value` then."""

    def hook(grad: Tensor) -> Tensor:
        poisoned = grad.clone()
        if now():
            poisoned.view(-1)[chance.randrange(poisoned.numel())] = value
        return poisoned

    chance.choice(list(trainable(task.policy).values())).register_hook(hook)
    return task


def _equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(value, expected[name]) for name, value in found.items()
    )
