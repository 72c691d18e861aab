"""A method of the registry, trained in a world by the loop that trains everything else."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard a method is trained: optimizer steps, examples of a step, rate."""

    steps: int = 400
    batch: int = 64
    lr: float = 1e-3


def train_offline(
    name: str,
    params: Mapping[str, Any],
    start: Policy,
    words: Words,
    pairs: Pairs,
    effort: Effort,
    seed: int,
) -> Policy:
    """The policy that a method makes of pairs, from a copy of `start`, which is the reference."""
    method, given = find({"name": name, **params})
    rows = examples(words, pairs, method.shape)
    policy = copied(start)
    if method.head == "scalar":
        add_scalar_head(policy)

    def split(part: Sequence[Rendered]) -> Split:
        if not method.reference:
            return Split(part, None)
        return Split(part, ReferenceLogps(score(start, part, TOKENS)))

    config = train_config(method, effort, len(rows))
    mismatches = None
    if method.mismatched:
        epochs = math.ceil(
            effort.steps / Sampler(len(rows), config.batch_size, seed).steps_per_epoch
        )
        mismatches = Mismatches(
            [split(mismatched(rows, seed, epoch)) for epoch in range(epochs)], Split([], None)
        )
    task = task_of(
        policy, (method, resolved(method, given, rows)), split(rows), config, effort, seed
    )
    return run(replace(task, mismatches=mismatches))


def train_config(method: Method, effort: Effort, rows: int) -> TrainConfig:
    """The loop's settings; each answer with a thumb counts as half a pair."""
    batch = 2 * effort.batch if method.shape == "labelled" else effort.batch
    return TrainConfig(
        batch_size=min(batch, rows),
        max_steps=effort.steps,
        epochs=math.ceil(effort.steps * batch / rows) + 1,
        eval_every=0,
        save_every=0,
        log_every=effort.steps,
        precision="fp32",
    )


def task_of(
    policy: Policy,
    chosen: tuple[Method, Any],
    train: Split,
    config: TrainConfig,
    effort: Effort,
    seed: int,
) -> Task:
    """All that the loop wants; it has no folder yet."""
    method, params = chosen
    return Task(
        policy=policy,
        method=method,
        params=params,
        train=train,
        heldout=Split([], None),
        optim=OptimConfig(schedule="cosine", warmup=0.05, weight_decay=0.0),
        config=config,
        lr=effort.lr,
        seed=seed,
        folder=Path(),
        budget=Budget(Plan("tree", "", "fp32", "cpu", 1, TOKENS, "")),
    )


def run(task: Task, watch: Watcher | None = None) -> Policy:
    """Train in a folder that is nobody's afterwards; returns the task's policy."""
    with tempfile.TemporaryDirectory(prefix="palate-experiment-") as folder:
        run_loop(replace(task, folder=Path(folder)), resume=False, watch=watch or Watcher())
    return task.policy
