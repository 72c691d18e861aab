"""A method of the registry, trained in a world by the loop that trains everything else."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from palate.config import OptimConfig, TrainConfig
from palate.experiments.data import Pairs, Thumbs, Words, examples
from palate.experiments.learner import copied, token_table
from palate.losses.method import Method
from palate.losses.registry import find
from palate.model.policy import Policy
from palate.model.scalar import add_scalar_head
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler
from palate.train.assemble import resolved
from palate.train.budget import Budget
from palate.train.folder import Plan
from palate.train.loop import run_loop
from palate.train.mismatch import mismatched
from palate.train.reference import ReferenceLogps
from palate.train.task import Mismatches, Split, Task, Watcher

TOKENS = 4096  # of a micro-batch
# Prompts of two symbols are too short to be worth sharing.
PLAN = Plan("plain", "", "fp32", "cpu", 1, TOKENS, "")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard a method is trained: optimizer steps, examples of a step, rate."""

    steps: int = 400
    batch: int = 64
    lr: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at a run `every` so many steps, before the first and after the last too.

    `look` gets the step, the policy as it is then, and what the trainer logs: the means over the
    steps since the last look, and those over `heldout`, pairs that are not trained on.
    """

    every: int
    look: Callable[[int, Policy, Mapping[str, float], Mapping[str, float]], None]
    heldout: Pairs | None = None


@functools.lru_cache(maxsize=4)
def reference_table(start: Policy, words: Words) -> Tensor:
    """log-probs of every symbol of every answer, [P, A, T] in fp32, once for all runs.

    Nobody trains the reference itself, only copies.
    """
    return token_table(start, words.world).float()


@dataclass(frozen=True, slots=True)
class Lab:
    """What a run begins with: the reference, its world's words, the effort and the seed."""

    start: Policy
    words: Words
    effort: Effort
    seed: int

    def split(self, part: Sequence[Rendered], *, reference: bool) -> Split:
        """Examples with what the reference says of them, if somebody asks."""
        if not reference:
            return Split(part, None)
        table = reference_table(self.start, self.words)
        tokens = self.words.world.tokens_A.tolist()
        rows = []
        for example in part:
            places = [self.words.place(branch) for branch in example.branches]
            rows.append(torch.cat([table[p, a, : tokens[a]] for p, a in places]))
        return Split(part, ReferenceLogps(rows))

    def task(
        self,
        policy: Policy,
        chosen: tuple[Method, Any],
        train: Split,
        config: TrainConfig,
        folder: Path,
    ) -> Task:
        """All that the loop wants."""
        method, params = chosen
        return Task(
            policy=policy,
            method=method,
            params=params,
            train=train,
            heldout=Split([], None),
            optim=OptimConfig(schedule=self.effort.schedule, warmup=0.05, weight_decay=0.0),
            config=config,
            lr=self.effort.lr,
            seed=self.seed,
            folder=folder,
            budget=Budget(PLAN),
        )

    def settings(self, batch: int, epochs: float) -> TrainConfig:
        """The loop's settings: so many steps, and nothing written on the way."""
        steps = self.effort.steps
        return TrainConfig(
            batch_size=batch,
            max_steps=steps,
            epochs=epochs,
            eval_every=0,
            save_every=0,
            log_every=steps,
            precision="fp32",
        )


def train_offline(
    lab: Lab, name: str, params: Mapping[str, Any], data: Pairs | Thumbs, watch: Watch | None = None
) -> Policy:
    """The policy that a method makes of its data, from a copy of the reference."""
    method, given = find({"name": name, **params})
    rows = examples(lab.words, data, method.shape)
    policy = copied(lab.start)
    if method.head == "scalar":
        add_scalar_head(policy)
    train = lab.split(rows, reference=method.reference)
    # An answer with a thumb counts as half a pair.
    batch = min(lab.effort.batch * (2 if method.shape == "labelled" else 1), len(rows))
    per_epoch = Sampler(len(rows), batch, lab.seed).steps_per_epoch
    epochs = math.ceil(lab.effort.steps / per_epoch)
    chosen = method, resolved(method, given, rows)
    config = lab.settings(batch, epochs)
    heldout = Split([], None)
    if watch is not None:
        config = config.model_copy(update={"eval_every": watch.every, "log_every": watch.every})
        if watch.heldout is not None:
            shown = examples(lab.words, watch.heldout, method.shape)
            heldout = lab.split(shown, reference=method.reference)
    mismatches = None
    if method.mismatched:
        others = [
            lab.split(mismatched(rows, lab.seed, epoch), reference=True) for epoch in range(epochs)
        ]
        measured = mismatched(heldout.examples, lab.seed, 0) if heldout.examples else []
        mismatches = Mismatches(others, lab.split(measured, reference=True))

    def make(folder: Path) -> Task:
        task = lab.task(policy, chosen, train, config, folder)
        return replace(task, heldout=heldout, mismatches=mismatches)

    return in_a_folder(make, watch)


def in_a_folder(make: Callable[[Path], Task], watch: Watch | None = None) -> Policy:
    """Train in a folder that is nobody's afterwards; returns the task's policy."""
    with tempfile.TemporaryDirectory(prefix="palate-experiment-") as folder:
        task = make(Path(folder))
        run_loop(task, resume=False, watch=Watcher() if watch is None else _looking(watch, task))
    return task.policy


def _looking(watch: Watch, task: Task) -> Watcher:
    """The loop's watcher that calls `look` when both the steps and the held-out pairs were seen.

    Without held-out pairs, nothing but the steps is seen, and nothing before the first.
    """
    trained: dict[int, dict[str, float]] = {0: {}}

    def on_step(step: int, total: int, means: dict[str, float]) -> None:
        trained[step] = means
        due = step % watch.every == 0 or step == total
        if not len(task.heldout.examples) and due:
            watch.look(step, task.policy, means, {})

    def on_heldout(step: int, means: dict[str, float]) -> None:
        watch.look(step, task.policy, trained[step], means)

    return Watcher(on_step=on_step, on_heldout=on_heldout)
