"""The loop: batches in order, a step each, and what is measured and saved on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from palate.losses.batch import State
from palate.model.adapters import trainable
from palate.train import checkpoint
from palate.train.guard import Guard
from palate.train.heldout import HeldoutFile
from palate.train.metrics import Interval, MetricsFile
from palate.train.optimizer import clip_gradients, lr_at, make_adamw, set_lr
from palate.train.packing import Given, compute, micro_batches
from palate.train.parallel import describe
from palate.train.retry import within_budget
from palate.train.saving import Saver
from palate.train.selection import Selection
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, StepResult
from palate.train.task import Interrupted, Progress, Ready, Source, SourceStopped, Task, Watcher

# Before the names of a moved reference's weights, and of what the source keeps, beside the
# method's own state.
_REFERENCE, _SOURCE = "reference/", "source/"


def run_loop(task: Task, *, resume: bool, watch: Watcher) -> Progress:
    """Train to the end, or to the first request to stop (raises `Interrupted`)."""
    task.ranks.wrap(task.policy)
    loop = _Loop(task, watch)
    try:
        return loop.run(resume=resume)
    finally:
        if (failed := loop.saver.close()) is not None:
            watch.on_note(f"WARNING: the last checkpoint was not written: {failed}")


class _Loop:
    """A run's moving parts, between its first step and its last."""

    def __init__(self, task: Task, watch: Watcher) -> None:
        self.task, self.watch = task, watch
        self.weights = trainable(task.policy)
        self.optimizer = make_adamw(self.weights, task.optim, task.lr, task.seed)
        self.guard = Guard(self.optimizer)
        self.saver = Saver(task.checkpoints, task.config.keep, task.ranks)
        path = task.folder / "metrics.jsonl"
        self.metrics = MetricsFile(path, writes=task.ranks.is_main, on_line=watch.on_line)
        self.each = HeldoutFile(task.folder / "heldout.jsonl", task.ranks.is_main)
        self.choice = Selection(task.config.best, task.config.patience)
        self.interval = Interval()
        self.state: State = {}
        self.source: Source = task.source or Given(task)
        self.total = task.total_steps
        self.progress = Progress()
        self.owes_measurement = False  # the judge went away in the one that was due
        self.since = 0.0

    def run(self, *, resume: bool) -> Progress:
        """All steps that are left."""
        first = self.progress.steps = self._start(resume=resume)
        if (first == 0 or self.owes_measurement) and self._measure(first):
            self._save(first)
        steps = range(first, first if self.choice.enough else self.total)
        self.since = time.perf_counter()
        arriving = self.source.steps(steps)
        while not self.choice.enough and (arrived := self._next(arriving)) is not None:
            self._step(*arrived)
        self._end()
        return self.progress

    def _next(self, arriving: Iterator[tuple[int, Ready]]) -> tuple[int, Ready] | None:
        """The next step; what was trained until then is saved where there will be none."""
        try:
            return next(arriving, None)
        except (SourceStopped, Interrupted) as error:
            self.guard.settle()
            self._save(self.progress.steps)
            self._saved()
            if isinstance(error, Interrupted):
                raise Interrupted(self.progress.steps, self.task.folder) from None
            raise

    def _step(self, index: int, ready: Ready) -> None:
        """One optimizer step, and what is due after it; raises `Interrupted` where it must."""
        config, step = self.task.config, index + 1
        self.saver.check()
        lr = lr_at(index, self.total, self.task.optim, self.task.lr)
        set_lr(self.optimizer, lr)
        if ready.line is not None:
            self.metrics.append({"kind": "rollout", "step": step, **ready.line})
        result, norm = self._optimize(index, ready)
        self.state, self.progress.steps = result.state, step
        self.interval.add(result)
        moving = self.task.moving
        if moving is not None and step % moving.how.every == 0:
            moving.follow()
        logged = step == 1 or step % config.log_every == 0 or step == self.total
        if logged:
            self._log(step, ready.epoch, result, lr, norm)
        better = False
        if config.eval_every and step % config.eval_every == 0 and step < self.total:
            self.guard.settle()
            pause = time.perf_counter()
            better = self._measure_or_save(step)
            self.since += time.perf_counter() - pause
            if self.choice.enough and not logged:
                self._log(step, ready.epoch, result, lr, norm)
        stop = self.task.ranks.most(self.watch.should_stop()) > 0
        due = step == self.total or (config.save_every > 0 and step % config.save_every == 0)
        if stop or due or better or self.choice.enough:
            self.guard.settle()
            self._save(step)
        if stop:
            self._saved()
            raise Interrupted(step, self.task.folder)

    def _optimize(self, index: int, ready: Ready) -> tuple[StepResult, Tensor]:
        """Gradients and update; begun again with smaller micro-batches where memory runs out."""
        task, reference = self.task, ready.split.reference

        def make(tokens: int) -> Sequence[MicroBatch]:
            if tokens == ready.tokens:
                return ready.batches
            return micro_batches(task.policy, task.ranks, ready.split, ready.rows, tokens)

        self.optimizer.zero_grad(set_to_none=True)
        result = within_budget(
            index,
            task.budget,
            make,
            lambda batches: compute(task, Packed(batches, reference, ready.over), self.state),
            self.weights.values(),
            self.watch.on_note,
            ranks=task.ranks,
        )
        task.ranks.add_gradients(self.weights.values())
        norm = clip_gradients(self.weights.values(), task.optim.clip)
        self.guard.step(result.loss, norm, ready.rows)
        return result, norm

    def _log(self, step: int, epoch: float, result: StepResult, lr: float, norm: Tensor) -> None:
        """A line of metrics.jsonl over the steps since the last one."""
        self.guard.settle()
        now = time.perf_counter()
        sizes = self.interval.sizes()
        means = {**self.interval.means(), "lr": lr, "grad_norm": float(norm)}
        if step == 1 and "abs_h" in result.metrics:  # rounding, as policy = reference
            means["max_abs_h"] = float(result.metrics["abs_h"].max())
        line = {"kind": "train", "step": step, "epoch": epoch}
        self.metrics.append({**line, **means, **sizes, "seconds": now - self.since})
        self.watch.on_step(step, self.total, means)
        self.interval, self.since = Interval(), now

    def _measure(self, step: int) -> bool:
        """Measure on the held-out examples; whether it is the best so far that is looked for."""
        measured = self.source.measure(self.state)
        if measured is None:
            return False
        means = measured.means
        self.each.append(step, measured.each)
        line = {"kind": "heldout", "step": step, "n": measured.n}
        self.metrics.append({**line, **means})
        self.progress.heldout = means
        self.watch.on_heldout(step, means)
        return self.choice.judge(step, means)

    def _measure_or_save(self, step: int) -> bool:
        """The measurement; where it cannot be made, a checkpoint that remembers it is due."""
        try:
            return self._measure(step)
        except (SourceStopped, Interrupted) as error:
            self._save(step, measured=False)
            self._saved()
            if isinstance(error, Interrupted):
                raise Interrupted(step, self.task.folder) from None
            raise

    def _save(self, step: int, *, measured: bool = True) -> None:
        """Begin a checkpoint of everything that the next step depends on."""
        moving = self.task.moving
        moved = moving.state() if moving is not None else {}
        kept, words = self.source.save()
        state = {**self.state, **_under(_REFERENCE, moved), **_under(_SOURCE, kept)}
        waiting: dict[str, Any] = {
            "interval": self.interval.to_json(),
            "best": self.choice.to_json(),
        }
        if words:
            waiting["source"] = words
        if not measured:
            waiting["owes_measurement"] = True
        self.saver.save(step, self.weights, self.optimizer, state, waiting)

    def _saved(self) -> None:
        """Wait, on all ranks, until the checkpoint that was begun last is on the disk."""
        self.saver.settle()
        self.task.ranks.on_main(lambda: None)  # which comes last, and may take its time

    def _end(self) -> None:
        """The last measurement; and where the best is asked for, its weights."""
        step, choice = self.progress.steps, self.choice
        if choice.enough:
            self.progress.stopped = True
            self.watch.on_note(
                f"stopped after step {step}: no measurement since step {choice.step} was better "
                f"(train.patience={choice.patience})"
            )
        else:
            self._measure(step)
        self._saved()
        if choice.step is None:
            return
        self.progress.best, self.progress.heldout = choice.step, choice.means
        if choice.step != step:
            note = f"the best measurement was that of step {choice.step}: its weights ship"
            self.watch.on_note(note)
            checkpoint.load_weights(self.task.checkpoints, self.weights, choice.step)

    def _start(self, *, resume: bool) -> int:
        """The step to begin with; of a run that goes on, everything its checkpoint holds.

        What metrics.jsonl and heldout.jsonl say about later steps, or about the end, which is
        measured again, is forgotten.
        """
        method, ranks = self.task.method, self.task.ranks
        found = None
        if resume:
            root = self.task.checkpoints
            found = checkpoint.load_latest(root, self.weights, self.optimizer, ranks)
        if found is None:
            self._forget_after(0, measured=False)
            self.state = method.initial_state(self.task.params) if method.initial_state else {}
            return 0
        if found.step > self.total:
            raise ValueError(
                f"{found.folder} is past the {self.total} steps that this recipe asks for: raise "
                "train.max_steps or train.epochs, or start anew with another name=NAME"
            )
        self._tell(found)
        if found.step > 0:  # before the first step everything is measured anew
            self.choice.restore(found.waiting.get("best", {}))
        self.owes_measurement = found.waiting.get("owes_measurement", False)
        measured = found.step > 0 and (found.step < self.total or self.choice.enough)
        measured = measured and not self.owes_measurement
        self._forget_after(found.step, measured=measured)
        moved, kept = _below(_REFERENCE, found.state), _below(_SOURCE, found.state)
        others = (_REFERENCE, _SOURCE)
        self.state = {n: v for n, v in found.state.items() if not n.startswith(others)}
        if self.task.moving is not None:
            self.task.moving.restore(moved)
        self.source.restore(kept, found.waiting.get("source", {}))
        # Before format 3 the interval's sums stood there alone.
        self.interval = Interval.from_json(found.waiting.get("interval", found.waiting))
        return found.step

    def _forget_after(self, step: int, *, measured: bool) -> None:
        self.metrics.cut_after(step, measured=measured)
        self.each.cut_after(step, measured=measured)

    def _tell(self, found: checkpoint.Resumed) -> None:
        """Say from where, and what is not as it was."""
        ranks, note = self.task.ranks, self.watch.on_note
        for damage in found.passed_over:
            note(f"passed over a damaged checkpoint: {damage}")
        note(f"continuing after step {found.step}, from {found.folder}")
        if (found.world, found.parallel) != (ranks.world, ranks.parallel):
            note(
                f"it was written by {describe(found.world, found.parallel)}, and now there is "
                f"{describe(ranks.world, ranks.parallel)}: the run goes on as it would have, to "
                "rounding and not bit for bit"
            )


def _under(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _below(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
