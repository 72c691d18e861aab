"""A method of the registry, trained in a world by the loop that trains everything else."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palate.config import OptimConfig, TrainConfig
from palate.experiments.data import Pairs, Words, examples
from palate.experiments.learner import copied
from palate.losses.method import Method
from palate.losses.registry import find
from palate.model.policy import Policy
from palate.model.scalar import add_scalar_head
from palate.model.score import score
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
PLAN = Plan("tree", "", "fp32", "cpu", 1, TOKENS, "")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard a method is trained: optimizer steps, examples of a step, rate."""

    steps: int = 400
    batch: int = 64
    lr: float = 1e-3


@dataclass(frozen=True, slots=True)
class Lab:
    """What a run begins with: the reference, its world's words, the effort and the seed."""

    start: Policy
    words: Words
    effort: Effort
    seed: int

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
            optim=OptimConfig(schedule="cosine", warmup=0.05, weight_decay=0.0),
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


def train_offline(lab: Lab, name: str, params: Mapping[str, Any], pairs: Pairs) -> Policy:
    """The policy that a method makes of pairs, from a copy of the reference."""
    method, given = find({"name": name, **params})
    rows = examples(lab.words, pairs, method.shape)
    policy = copied(lab.start)
    if method.head == "scalar":
        add_scalar_head(policy)

    def split(part: Sequence[Rendered]) -> Split:
        if not method.reference:
            return Split(part, None)
        return Split(part, ReferenceLogps(score(lab.start, part, TOKENS)))

    # An answer with a thumb counts as half a pair.
    batch = min(lab.effort.batch * (2 if method.shape == "labelled" else 1), len(rows))
    per_epoch = Sampler(len(rows), batch, lab.seed).steps_per_epoch
    epochs = math.ceil(lab.effort.steps / per_epoch)
    mismatches = None
    if method.mismatched:
        others = [split(mismatched(rows, lab.seed, epoch)) for epoch in range(epochs)]
        mismatches = Mismatches(others, Split([], None))
    chosen = method, resolved(method, given, rows)
    train, config = split(rows), lab.settings(batch, epochs)
    return in_a_folder(
        lambda folder: replace(
            lab.task(policy, chosen, train, config, folder), mismatches=mismatches
        )
    )


def in_a_folder(make: Callable[[Path], Task]) -> Policy:
    """Train in a folder that is nobody's afterwards; returns the task's policy."""
    with tempfile.TemporaryDirectory(prefix="palate-experiment-") as folder:
        task = make(Path(folder))
        run_loop(task, resume=False, watch=Watcher())
    return task.policy
