"""The loop: batches in order, a step each, and what is measured and saved on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from palate.losses.batch import State
from palate.model.adapters import trainable
from palate.train import checkpoint
from palate.train.guard import Guard
from palate.train.metrics import Averages, Interval, MetricsFile
from palate.train.optimizer import clip_gradients, lr_at, make_adamw, set_lr
from palate.train.packing import Ready, micro_batches, pack_heldout, prepared
from palate.train.parallel import describe
from palate.train.retry import within_budget
from palate.train.selection import Selection
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, StepResult, compute_step
from palate.train.task import Interrupted, Progress, Task, Watcher

# Before the names of a moved reference's weights, beside the method's own state.
_REFERENCE = "reference/"


def run_loop(task: Task, *, resume: bool, watch: Watcher) -> Progress:
    """Train to the end, or to the first request to stop (raises `Interrupted`)."""
    task.ranks.wrap(task.policy)
    return _Loop(task, watch).run(resume=resume)


class _Loop:
    """A run's moving parts, between its first step and its last."""

    def __init__(self, task: Task, watch: Watcher) -> None:
        self.task, self.watch = task, watch
        self.weights = trainable(task.policy)
        self.optimizer = make_adamw(self.weights, task.optim, task.lr, task.seed)
        self.guard = Guard(self.optimizer)
        path = task.folder / "metrics.jsonl"
        self.metrics = MetricsFile(path, writes=task.ranks.is_main, on_line=watch.on_line)
        self.choice = Selection(task.config.best, task.config.patience)
        self.interval = Interval()
        self.state: State = {}
        self.sampler, self.total = task.sampler, task.total_steps
        self.heldout: Packed | None = None
        self.progress = Progress()
        self.since = 0.0

    def run(self, *, resume: bool) -> Progress:
        """All steps that are left."""
        first = self.progress.steps = self._start(resume=resume)
        self.heldout = pack_heldout(self.task)
        if first == 0 and self._measure(0):
            self._save(0)
        steps = range(first, first if self.choice.enough else self.total)
        self.since = time.perf_counter()
        for index, ready in prepared(self.task, self.sampler, steps):
            self._step(index, ready)
            if self.choice.enough:
                break
        self._end()
        return self.progress

    def _step(self, index: int, ready: Ready) -> None:
        """One optimizer step, and what is due after it; raises `Interrupted` where it must."""
        config, step = self.task.config, index + 1
        lr = lr_at(index, self.total, self.task.optim, self.task.lr)
        set_lr(self.optimizer, lr)
        result, norm = self._optimize(index, ready)
        self.state, self.progress.steps = result.state, step
        self.interval.add(result)
        moving = self.task.moving
        if moving is not None and step % moving.how.every == 0:
            moving.follow()
        logged = step == 1 or step % config.log_every == 0 or step == self.total
        if logged:
            self._log(step, result, lr, norm)
        better = False
        if config.eval_every and step % config.eval_every == 0 and step < self.total:
            self.guard.settle()
            pause = time.perf_counter()
            better = self._measure(step)
            self.since += time.perf_counter() - pause
            if self.choice.enough and not logged:
                self._log(step, result, lr, norm)
        stop = self.task.ranks.most(self.watch.should_stop()) > 0
        due = step == self.total or (config.save_every > 0 and step % config.save_every == 0)
        if stop or due or better or self.choice.enough:
            self.guard.settle()
            self._save(step)
        if stop:
            raise Interrupted(step, self.task.folder)

    def _optimize(self, index: int, ready: Ready) -> tuple[StepResult, Tensor]:
        """Gradients and update; begun again with smaller micro-batches where memory runs out."""
        task, reference = self.task, self.task.train.reference

        def make(tokens: int) -> Sequence[MicroBatch]:
            if tokens == ready.tokens:
                return ready.batches
            return micro_batches(task, task.train, ready.rows, tokens)

        self.optimizer.zero_grad(set_to_none=True)
        result = within_budget(
            index,
            task.budget,
            make,
            lambda batches: _compute(task, Packed(batches, reference, ready.over), self.state),
            self.weights.values(),
            self.watch.on_note,
            ranks=task.ranks,
        )
        task.ranks.add_gradients(self.weights.values())
        norm = clip_gradients(self.weights.values(), task.optim.clip)
        self.guard.step(result.loss, norm, ready.rows)
        return result, norm

    def _log(self, step: int, result: StepResult, lr: float, norm: Tensor) -> None:
        """A line of metrics.jsonl over the steps since the last one."""
        self.guard.settle()
        now = time.perf_counter()
        sizes = self.interval.sizes()
        means = {**self.interval.means(), "lr": lr, "grad_norm": float(norm)}
        if step == 1 and "abs_h" in result.metrics:  # rounding, as policy = reference
            means["max_abs_h"] = float(result.metrics["abs_h"].max())
        line = {"kind": "train", "step": step, "epoch": step / self.sampler.steps_per_epoch}
        self.metrics.append({**line, **means, **sizes, "seconds": now - self.since})
        self.watch.on_step(step, self.total, means)
        self.interval, self.since = Interval(), now

    def _measure(self, step: int) -> bool:
        """Measure on the held-out examples; whether it is the best so far that is looked for."""
        if self.heldout is None:
            return False
        means = heldout_means(self.task, self.heldout, self.state)
        line = {"kind": "heldout", "step": step, "n": len(self.task.heldout.examples)}
        self.metrics.append({**line, **means})
        self.progress.heldout = means
        self.watch.on_heldout(step, means)
        return self.choice.judge(step, means)

    def _save(self, step: int) -> None:
        """A checkpoint of everything that the next step depends on."""
        moving = self.task.moving
        moved = moving.state() if moving is not None else {}
        state = {**self.state, **{f"{_REFERENCE}{name}": value for name, value in moved.items()}}
        waiting = {"interval": self.interval.to_json(), "best": self.choice.to_json()}
        checkpoint.save(
            self.task.checkpoints,
            step,
            self.weights,
            self.optimizer,
            state,
            self.task.config.keep,
            waiting,
            self.task.ranks,
        )

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
        if choice.step is None:
            return
        self.progress.best, self.progress.heldout = choice.step, choice.means
        if choice.step != step:
            note = f"the best measurement was that of step {choice.step}: its weights ship"
            self.watch.on_note(note)
            checkpoint.load_weights(self.task.checkpoints, self.weights, choice.step)

    def _start(self, *, resume: bool) -> int:
        """The step to begin with; of a run that goes on, everything its checkpoint holds.

        What metrics.jsonl says about later steps, or about the end, which is measured again, is
        forgotten.
        """
        method, ranks = self.task.method, self.task.ranks
        found = None
        if resume:
            root = self.task.checkpoints
            found = checkpoint.load_latest(root, self.weights, self.optimizer, ranks)
        if found is None:
            self.metrics.cut_after(0, measured=False)
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
        measured = found.step > 0 and (found.step < self.total or self.choice.enough)
        self.metrics.cut_after(found.step, measured=measured)
        moved = {n: v for n, v in found.state.items() if n.startswith(_REFERENCE)}
        self.state = {n: v for n, v in found.state.items() if n not in moved}
        if self.task.moving is not None:
            moved = {name.removeprefix(_REFERENCE): v for name, v in moved.items()}
            self.task.moving.restore(moved)
        # Before format 3 the interval's sums stood there alone.
        self.interval = Interval.from_json(found.waiting.get("interval", found.waiting))
        return found.step

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


def heldout_means(task: Task, heldout: Packed, state: State) -> dict[str, float]:
    """Loss and metrics over the held-out examples."""
    averages = Averages()
    result = _compute(task, heldout, state, backward=False)
    averages.add(result.metrics)
    return {**averages.read(), "loss": float(result.loss)}


def _compute(task: Task, packed: Packed, state: State, *, backward: bool = True) -> StepResult:
    """A step over this rank's part of its rows."""
    return compute_step(
        task.policy,
        task.method,
        task.params,
        packed,
        state,
        backward=backward,
        ranks=task.ranks,
    )
