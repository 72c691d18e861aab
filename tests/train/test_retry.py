"""A step that runs out of memory starts again and gives the gradient that it would have given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import STEPS, make_plan, make_task, train, weights_of
from torch import Tensor

import palate.train.loop as looping
from palate.losses.registry import METHODS
from palate.machine import ran_out_of_memory
from palate.model.adapters import trainable
from palate.train.budget import Budget
from palate.train.folder import Lowered, Plan, read_plan, write_plan
from palate.train.guard import Guard
from palate.train.loop import run_loop
from palate.train.packing import micro_batches
from palate.train.retry import DoesNotFit, within_budget
from palate.train.task import Ready, Task, Watcher

ON_A_CPU = "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
WORDS = [
    RuntimeError(ON_A_CPU),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", WORDS, ids=["cpu", "cuda", "python"])
def test_words_that_mean_memory(error: Exception) -> None:
    assert ran_out_of_memory(error)
    assert not ran_out_of_memory(RuntimeError("the size of tensor a must match"))
    assert not ran_out_of_memory(ValueError("out of memory"))


@contextmanager
def failing_backward(
    task: Task, at: int, error: BaseException, times: int = 1
) -> Iterator[Callable[[], int]]:
    """The `at`-th backward pass (from 1) fails half-way: the last layer has its gradient by then.

    And so `times` passes in a row. Yields how many backward passes there were.
    """
    first, *_ = trainable(task.policy).values()
    last = list(trainable(task.policy).values())[-1]
    passes = 0

    def hook(grad: Tensor) -> None:
        nonlocal passes
        passes += 1
        if at <= passes < at + times:
            assert last.grad is not None or passes == 1, "other layers have gradients already"
            raise error

    handle = first.register_hook(hook)
    try:
        yield lambda: passes
    finally:
        handle.remove()


def one_step(task: Task, at: int | None = None, error: BaseException = WORDS[0]) -> Any:
    """Gradients, result and notes of the first optimizer step, before the optimizer moves."""
    notes: list[str] = []
    found: dict[str, Tensor] = {}
    weights = trainable(task.policy)

    class Still(torch.optim.SGD):
        def step(self, *_: Any) -> None:  # type: ignore[override]
            found.update({n: w.grad.clone() for n, w in weights.items() if w.grad is not None})

    state = task.method.initial_state(task.params) if task.method.initial_state else {}
    rows = task.sampler.batch(0)
    optimizer = Still(list(weights.values()), lr=0.0)
    watch = Watcher(on_note=notes.append)
    tokens = task.budget.at(0)
    batches = micro_batches(task.policy, task.ranks, task.train, rows, tokens)
    ready = Ready(task.train, rows, tokens, batches, epoch=1.0)
    calm = replace(task, optim=task.optim.model_copy(update={"clip": None}))
    loop = looping._Loop(calm, watch)
    loop.optimizer, loop.guard, loop.state = optimizer, Guard(optimizer), state
    if at is None:
        result, _ = loop._optimize(0, ready)
    else:
        with failing_backward(task, at, error):
            result, _ = loop._optimize(0, ready)
    return found, result, notes


@pytest.mark.parametrize("error", WORDS, ids=["cpu", "cuda", "python"])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_the_gradient_is_that_of_an_undisturbed_step(
    tmp_path: Path, at: int, error: Exception
) -> None:
    """Four micro-batches; the second or last fails after the first left its gradients."""
    calm, shaken = (
        make_task(tmp_path / name, kind="full", batch_size=8, tokens_per_microbatch=50)
        for name in ("calm", "shaken")
    )
    parts = micro_batches(calm.policy, calm.ranks, calm.train, calm.sampler.batch(0), 50)
    assert len(parts) == 4
    assert all(len(part.rows) > 1 for part in parts)
    grads, result, _ = one_step(calm)
    again, other, notes = one_step(shaken, at, error)
    assert grads.keys() == again.keys() == weights_of(calm).keys()
    for name, grad in grads.items():
        difference = float((grad - again[name]).abs().max())
        assert difference <= 1e-5 * float(grad.abs().max()), name
    assert float(result.loss) == pytest.approx(float(other.loss), rel=1e-6)
    assert float(result.state["mean"]) == pytest.approx(float(other.state["mean"]), rel=1e-5)
    assert len(notes) == 1
    assert "out of memory in step 1" in notes[0]
    # Bit for bit what a step with the smaller budget gives from the start.
    (low,) = shaken.budget.plan.lowered
    tokens = low.tokens_per_microbatch
    smaller = make_task(tmp_path, kind="full", batch_size=8, tokens_per_microbatch=tokens)
    exact, _, _ = one_step(smaller)
    assert all(torch.equal(exact[name], again[name]) for name in exact)


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        one_step(make_task(tmp_path), 1, RuntimeError("a bug"))


def test_one_example_alone_that_does_not_fit(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    notes: list[str] = []
    with failing_backward(task, 1, WORDS[0], times=10**6) as passes, pytest.raises(DoesNotFit) as e:
        run_loop(task, resume=False, watch=Watcher(on_note=notes.append))
    assert "one example alone (training row" in str(e.value)
    assert "\n" not in str(e.value)
    assert passes() < 8, "each try is with half of what failed"
    assert e.value.__context__ is None, "the line stands by itself"


def persistent(folder: Path, tokens: int = 80) -> Budget:
    """A budget that keeps its plan in the folder, as a run's does."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = read_plan(folder)
    if plan is None:
        plan = make_plan(tokens)
        write_plan(folder, plan)
    return Budget(plan, lambda changed: write_plan(folder, changed))


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_resumed_run_splits_the_same_way(tmp_path: Path, stop: int) -> None:
    """Memory ran out in step 3; wherever the run is interrupted, its bits are the same."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def task(folder: Path) -> Task:
        return make_task(folder, budget=persistent(folder))

    def failing_in_step_3(one: Task) -> Any:
        return failing_backward(one, backward_passes(tmp_path / "count", 2) + 1, WORDS[0])

    one = task(whole)
    with failing_in_step_3(one):
        train(one)
    plan = read_plan(whole)
    assert plan is not None
    assert plan.lowered == (Lowered(2, plan.lowered[0].tokens_per_microbatch),)
    assert [plan.budget_at(step) for step in range(4)] == [80, 80, *[plan.budget_at(2)] * 2]
    assert plan.budget_at(2) < 80

    two = task(parts)
    if stop >= 3:
        with failing_in_step_3(two):
            train(two, stop_after=stop)
        train(task(parts), resume=True)
    else:  # interrupted before: it happens in the continuation, at the same step
        train(two, stop_after=stop)
        three = task(parts)
        rest = backward_passes(tmp_path / "rest", 2) - backward_passes(tmp_path / "done", stop)
        with failing_backward(three, rest + 1, WORDS[0]):
            train(three, resume=True)
    assert read_plan(parts) == plan
    weights, others = (
        {**torch_load(folder / "checkpoints" / f"step-{STEPS}")} for folder in (whole, parts)
    )
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def backward_passes(folder: Path, steps: int) -> int:
    """Micro-batches of the first steps under the budget of 80."""
    task = make_task(folder, tokens_per_microbatch=80)
    sampler = task.sampler
    return sum(
        len(micro_batches(task.policy, task.ranks, task.train, sampler.batch(k), 80))
        for k in range(steps)
    )


def torch_load(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


def test_a_plan_with_events_is_read_back(tmp_path: Path) -> None:
    plan = replace(make_plan(100), lowered=(Lowered(3, 50), Lowered(7, 20)))
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    assert [plan.budget_at(k) for k in (0, 2, 3, 6, 7, 99)] == [100, 100, 50, 50, 20, 20]
    raw = json.loads((tmp_path / "plan.json").read_text())
    assert raw["lowered"][0] == {"step": 3, "tokens_per_microbatch": 50}
    del raw["lowered"]
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    assert read_plan(tmp_path) == make_plan(100), "a plan of before there were events"
    assert Plan(**{**asdict(plan), "lowered": plan.lowered}) == plan


def test_a_failure_before_any_micro_batch_is_not_ours_to_mend(tmp_path: Path) -> None:
    def compute(batches: Any) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        within_budget(0, Budget(make_plan(9)), lambda _: [], compute, [], print)


def test_what_failed_is_let_go_before_the_step_begins_again(tmp_path: Path) -> None:
    """Tensors of the failed pass, held by its traceback, would be there beside the new pass."""
    import weakref

    task = make_task(tmp_path, method=METHODS["dpo"], tokens_per_microbatch=80)
    rows = task.sampler.batch(0)
    held: list[weakref.ref[Tensor]] = []

    def compute(batches: Any) -> int:
        assert not any(ref() is not None for ref in held)
        for micro in batches:
            tensor = micro.forest.ids_T * 2
            held.append(weakref.ref(tensor))
            if len(held) == 1:
                raise RuntimeError(ON_A_CPU)
        return len(held)

    def make(tokens: int) -> Any:
        return micro_batches(task.policy, task.ranks, task.train, rows, tokens)

    assert within_budget(0, task.budget, make, compute, [], lambda _: None) >= 2
