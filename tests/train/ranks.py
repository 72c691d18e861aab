"""What each of several ranks does in the tests of many ranks: a task, changed and harmed as asked.

What a job trained is in its checkpoints, what it wrote in FOLDER/NAME/metrics.jsonl, and what each
rank saw in FOLDER/NAME/rank-R.json. `tests.train.starting` starts the processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.train.harm import Harm, before, harmed
from tests.train.tasks import (
    MOVING,
    FixedReference,
    ids,
    make_task,
    make_thumbs_task,
    pair,
    stopping_after,
)
from tests.train.test_step import COUPLED
from torch import Tensor

from palate.losses.registry import METHODS
from palate.model.adapters import trainable
from palate.model.policy import Policy
from palate.model.score import score_rows
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train import loop
from palate.train.parallel import ALONE, Ranks
from palate.train.task import Interrupted, Split, Task, Watcher

METHOD = {"moving": MOVING, "coupled": COUPLED}
EXAMPLES = 9  # 4 a step: batches of 4, 4, 1, the last of which leaves one of two ranks without


def uneven_pairs(count: int = EXAMPLES) -> list[Rendered]:
    """Every third pair has long answers, so that ranks get different numbers of examples."""
    pairs = [pair(i) for i in range(count)]
    return [_lengthened(one) if row % 3 == 0 else one for row, one in enumerate(pairs)]


def _lengthened(one: Rendered) -> Rendered:
    branches = [
        Branch([*branch.ids, *ids(20, 900 + n)], [*branch.mask, *([True] * 20)])
        for n, branch in enumerate(one.branches)
    ]
    return replace(one, branches=tuple(branches))


def samples(policy: Policy, pairs: list[Rendered]) -> list[Rendered]:
    """Each pair's first answer as if it had been drawn by weights near these, and rewarded."""
    alone = [replace(one, branches=one.branches[:1]) for one in pairs]
    drawn = []
    for row, one in enumerate(alone):
        draw = torch.Generator().manual_seed(row)
        logp_N = score_rows(policy, alone, [row])[row]
        old_N = logp_N + 0.1 * torch.randn(len(logp_N), generator=draw)
        good = float(torch.randn((), generator=draw))
        columns = {"old": old_N, "advantage": torch.full_like(old_N, good)}
        drawn.append(replace(one, columns=columns, told={"reward": good}))
    return drawn


def task_of(
    folder: Path,
    ranks: Ranks = ALONE,
    *,
    method: str = "dpo",
    count: int = EXAMPLES,
    **settings: Any,
) -> Task:
    """The usual task with nine examples, small micro-batches and decay on every matrix."""
    chosen = METHOD.get(method) or METHODS[method]
    if chosen.shape == "labelled":
        return replace(make_thumbs_task(folder, count, **settings), ranks=ranks)
    base = make_task(folder, method=chosen, **settings)
    examples = uneven_pairs(count)
    if chosen.shape == "sample":
        examples = samples(base.policy, examples)
        base = replace(base, heldout=Split([], None))
    return replace(base, train=Split(examples, FixedReference(examples)), ranks=ranks)


def run_job(
    folder: Path,
    ranks: Ranks = ALONE,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    harm: dict[str, Any] | None = None,
    sgd: bool = False,
    gradients: bool = False,
    logits_budget: int | None = None,
    **settings: Any,
) -> list[str]:
    """Train; returns the notes. Only the last rank is asked to stop, and one comes to harm.

    With `sgd` plain gradient descent takes the optimizer's place; with `gradients` those of every
    step go to FOLDER/gradients.safetensors.
    """
    task = task_of(folder, ranks, **settings)
    if logits_budget is not None:
        task.policy.logits_budget = logits_budget
    notes: list[str] = []
    watch = Watcher(on_note=notes.append)
    if harm is not None and not before(ranks, Harm(**harm)):
        task, watch.should_stop = harmed(task, Harm(**harm))
    if stop_after and ranks.rank == ranks.world - 1:
        watch.should_stop = stopping_after(stop_after)
    kept: dict[str, Tensor] = {}
    with (
        pytest.raises(Interrupted) if stop_after else nullcontext(),
        _descending() if sgd else nullcontext(),
        _recording(task, kept) if gradients else nullcontext(),
    ):
        loop.run_loop(task, resume=resume, watch=watch)
    if gradients and ranks.is_main:
        save_file(kept, folder / "gradients.safetensors")
    seen = {"notes": notes, "weights": _sums(task)}
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    return notes


def _sums(task: Task) -> dict[str, float]:
    """What tells whether two ranks hold the same weights; nothing where each holds a part."""
    weights = trainable(task.policy)
    if task.ranks.parallel not in {"none", "ddp"}:
        return {}
    return {name: float(w.detach().double().sum()) for name, w in weights.items()}


def _whole(tensor: Tensor) -> Tensor:
    """Of what is divided over ranks, all of it; they must ask together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@contextmanager
def _descending() -> Iterator[None]:
    """w ← w − lr·g: what a gradient is too large by, the weights are too."""

    def make(weights: dict[str, Tensor], optim: Any, lr: float, seed: int = 0) -> Any:
        return torch.optim.SGD(list(weights.values()), lr=lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_adamw", make)
        yield


@contextmanager
def _recording(task: Task, kept: dict[str, Tensor]) -> Iterator[None]:
    """Keep each step's gradient as it is before it is clipped, whole."""
    inner: Callable[..., Tensor] = loop.clip_gradients
    step = 0

    def record(weights: Iterable[Tensor], limit: float | None) -> Tensor:
        nonlocal step
        step += 1
        for name, weight in trainable(task.policy).items():
            if weight.grad is not None:
                kept[f"{step}/{name}"] = _whole(weight.grad).clone()
        return inner(weights, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "clip_gradients", record)
        yield
