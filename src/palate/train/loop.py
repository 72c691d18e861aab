"""The loop: batches in order, a step each, and what is measured and saved on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from palate.config import OptimConfig, TrainConfig
from palate.losses.batch import State
from palate.losses.method import Method
from palate.model.adapters import trainable
from palate.model.policy import Policy
from palate.tokens.divide import divide
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, cut
from palate.train import checkpoint
from palate.train.budget import Budget
from palate.train.guard import Guard
from palate.train.metrics import Averages, Interval, MetricsFile
from palate.train.optimizer import clip_gradients, lr_at, make_adamw, set_lr
from palate.train.parallel import ALONE, Ranks, describe
from palate.train.prefetch import ahead
from palate.train.retry import within_budget
from palate.train.step import MicroBatch, ReferenceLookup, StepResult, compute_step, pack


class Interrupted(Exception):
    """The run was asked to stop; what there is to keep was saved first.

    `step` is the step it stopped after, None outside the training loop.
    """

    def __init__(self, step: int | None, folder: Path) -> None:
        where = "outside training" if step is None else f"after step {step}"
        super().__init__(f"stopped {where}")
        self.step = step
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Split:
    """Rendered examples and their reference's log-probs."""

    examples: Sequence[Rendered]
    reference: ReferenceLookup | None


@dataclass(slots=True)
class Watcher:
    """How the outside follows and stops a run. All callbacks are cheap and optional."""

    on_step: Callable[[int, int, dict[str, float]], None] = lambda step, total, means: None
    on_heldout: Callable[[int, dict[str, float]], None] = lambda step, means: None
    on_note: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Task:
    """All that training needs, decided before it starts."""

    policy: Policy
    method: Method
    params: Any
    train: Split
    heldout: Split
    optim: OptimConfig
    config: TrainConfig
    lr: float
    seed: int
    folder: Path
    budget: Budget
    ranks: Ranks = ALONE


@dataclass(slots=True)
class Progress:
    """How far a run came, and the last measurement on the held-out examples."""

    steps: int = 0
    heldout: dict[str, float] = field(default_factory=dict)


def run_loop(task: Task, *, resume: bool, watch: Watcher) -> Progress:
    """Train to the end, or to the first request to stop (raises `Interrupted`)."""
    task.ranks.wrap(task.policy)
    weights = trainable(task.policy)
    optimizer = make_adamw(weights, task.optim, task.lr, task.seed)
    sampler = sampler_of(task)
    total = sampler.total_steps(task.config.epochs, task.config.max_steps)
    metrics = MetricsFile(task.folder / "metrics.jsonl", writes=task.ranks.is_main)
    first, state, interval = _start(task, weights, optimizer, metrics, total, resume, watch)
    progress = Progress(steps=first)
    heldout = pack_heldout(task)
    if first == 0:
        _measure(task, heldout, state, 0, metrics, progress, watch)
    since = time.perf_counter()
    guard = Guard(optimizer)
    for index, ready in _prepared(task, sampler, range(first, total)):
        lr = lr_at(index, total, task.optim, task.lr)
        set_lr(optimizer, lr)
        result, norm = _optimizer_step(task, index, ready, weights, guard, state, watch)
        state, step = result.state, index + 1
        interval.add(result)
        progress.steps = step
        if step == 1 or step % task.config.log_every == 0 or step == total:
            guard.settle()
            now = time.perf_counter()
            line = {"kind": "train", "step": step, "epoch": step / sampler.steps_per_epoch}
            sizes, means = (
                interval.sizes(),
                {**interval.means(), "lr": lr, "grad_norm": float(norm)},
            )
            if step == 1 and "abs_h" in result.metrics:  # rounding, as policy = reference
                means["max_abs_h"] = float(result.metrics["abs_h"].max())
            metrics.append({**line, **means, **sizes, "seconds": now - since})
            watch.on_step(step, total, means)
            interval, since = Interval(), now
        if task.config.eval_every and step % task.config.eval_every == 0 and step < total:
            guard.settle()
            pause = time.perf_counter()
            _measure(task, heldout, state, step, metrics, progress, watch)
            since += time.perf_counter() - pause
        stop = task.ranks.most(watch.should_stop()) > 0
        if stop or _due(step, total, task.config.save_every):
            guard.settle()
            kept = (task.config.keep, interval.to_json(), task.ranks)
            checkpoint.save(_root(task), step, weights, optimizer, state, *kept)
        if stop:
            raise Interrupted(step, task.folder)
    _measure(task, heldout, state, total, metrics, progress, watch)
    return progress


def sampler_of(task: Task) -> Sampler:
    """The order of the training examples."""
    config = task.config
    return Sampler.over(task.train.examples, config.batch_size, task.seed, config.order)


def pack_heldout(task: Task) -> list[MicroBatch]:
    """The held-out examples, sorted as a whole so that they share all they can.

    Packed once and measured often.
    """
    rows = range(len(task.heldout.examples))
    return _batches(task, task.heldout, rows, task.budget.first) if rows else []


def heldout_means(task: Task, heldout: Sequence[MicroBatch], state: State) -> dict[str, float]:
    """Loss and metrics over the held-out examples."""
    averages = Averages()
    result = _compute(task, task.heldout, heldout, state, backward=False)
    averages.add(result.metrics)
    return {**averages.read(), "loss": float(result.loss)}


@dataclass(frozen=True, slots=True)
class _Ready:
    """The micro-batches of one optimizer step, at the budget that held when they were built."""

    rows: Sequence[int]
    tokens: int
    batches: Sequence[MicroBatch]


def _prepared(task: Task, sampler: Sampler, steps: Sequence[int]) -> Iterator[tuple[int, _Ready]]:
    """Each step's micro-batches, a pure function of its number, built one step ahead.

    Several ranks agree on how many each runs when they build them, so they build them in turn.
    """

    def make(index: int) -> _Ready:
        rows, tokens = sampler.batch(index), task.budget.at(index)
        return _Ready(rows, tokens, _batches(task, task.train, rows, tokens))

    if task.ranks.world == 1:
        return ahead(make, steps)
    return ((index, make(index)) for index in steps)


def _optimizer_step(
    task: Task,
    index: int,
    ready: _Ready,
    weights: dict[str, torch.Tensor],
    guard: Guard,
    state: State,
    watch: Watcher,
) -> tuple[StepResult, torch.Tensor]:
    """One step; begun again with smaller micro-batches where memory runs out."""

    def make(tokens: int) -> Sequence[MicroBatch]:
        if tokens == ready.tokens:
            return ready.batches
        return _batches(task, task.train, ready.rows, tokens)

    guard.optimizer.zero_grad(set_to_none=True)
    result = within_budget(
        index,
        task.budget,
        make,
        lambda batches: _compute(task, task.train, batches, state),
        weights.values(),
        watch.on_note,
        ranks=task.ranks,
    )
    task.ranks.add_gradients(weights.values())
    norm = clip_gradients(weights.values(), task.optim.clip)
    guard.step(result.loss, norm, ready.rows)
    return result, norm


def _compute(
    task: Task,
    split: Split,
    batches: Sequence[MicroBatch],
    state: State,
    *,
    backward: bool = True,
) -> StepResult:
    """A step over this rank's part of its rows."""
    policy, method, params = task.policy, task.method, task.params
    return compute_step(
        policy,
        method,
        params,
        batches,
        split.reference,
        state,
        backward=backward,
        ranks=task.ranks,
    )


def _batches(task: Task, split: Split, rows: Sequence[int], tokens: int) -> list[MicroBatch]:
    """This rank's part of `rows`, in micro-batches of at most so many tokens."""
    examples = split.examples
    share, ranks = task.policy.layout == "tree", task.ranks
    mine = divide(examples, rows, ranks.world, share=share)[ranks.rank]
    cuts = cut(examples, mine, tokens, share=share)
    fillers = ranks.fillers(len(cuts))
    return pack(examples, rows, cuts, share=share, device=task.policy.device, fillers=fillers)


def _start(
    task: Task,
    weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    metrics: MetricsFile,
    total: int,
    resume: bool,
    watch: Watcher,
) -> tuple[int, State, Interval]:
    """The step to begin with, the method's state and the open interval of the metrics.

    They come from a checkpoint where one is wanted; what metrics.jsonl says about later
    steps, or about the end, which is measured again, is forgotten.
    """
    root, ranks = _root(task), task.ranks
    found = checkpoint.load_latest(root, weights, optimizer, ranks) if resume else None
    if found is None:
        metrics.cut_after(0, measured=False)
        state = task.method.initial_state(task.params) if task.method.initial_state else {}
        return 0, state, Interval()
    if found.step > total:
        raise ValueError(
            f"{found.folder} is past the {total} steps that this recipe asks for: raise "
            "train.max_steps or train.epochs, or start anew with another name=NAME"
        )
    for damage in found.passed_over:
        watch.on_note(f"passed over a damaged checkpoint: {damage}")
    watch.on_note(f"continuing after step {found.step}, from {found.folder}")
    if (found.world, found.parallel) != (ranks.world, ranks.parallel):
        watch.on_note(
            f"it was written by {describe(found.world, found.parallel)}, and now there is "
            f"{describe(ranks.world, ranks.parallel)}: the run goes on as it would have, to "
            "rounding and not bit for bit"
        )
    metrics.cut_after(found.step, measured=found.step < total)
    return found.step, found.state, Interval.from_json(found.waiting)


def _measure(
    task: Task,
    heldout: Sequence[MicroBatch],
    state: State,
    step: int,
    metrics: MetricsFile,
    progress: Progress,
    watch: Watcher,
) -> None:
    if not heldout:
        return
    means = heldout_means(task, heldout, state)
    line = {"kind": "heldout", "step": step, "n": len(task.heldout.examples)}
    metrics.append({**line, **means})
    progress.heldout = means
    watch.on_heldout(step, means)


def _due(step: int, total: int, every: int) -> bool:
    return step == total or (every > 0 and step % every == 0)


def _root(task: Task) -> Path:
    return task.folder / "checkpoints"
