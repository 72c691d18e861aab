"""From examples and a learner to the task of the training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.config import RunConfig
from palate.losses.method import Counts, Method
from palate.progress import Reporter
from palate.records import Example
from palate.tokens.render import Rendered, Renderer
from palate.tokens.sampler import Sampler
from palate.train.mismatch import mismatched, mismatched_with
from palate.train.moving import MovingReference
from palate.train.parallel import Ranks
from palate.train.reference import reference_mode
from palate.train.selection import check_selectable
from palate.train.setup import Learner, make_split
from palate.train.task import Mismatches, Split, Task
from palate.train.trial import settle


def assemble(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    chosen: tuple[Method, Any],
    data: tuple[Sequence[Example], Sequence[Example]],
    say: Reporter,
    ranks: Ranks,
) -> Task:
    """`data` (training and held-out) as tokens, with reference and budget.

    The reference is computed here, so the policy must still have the weights it began with.
    """
    method, params = chosen
    reference_mode(config.train.reference, method)  # refused before anything is computed
    train, heldout = (render(learner.renderer, part, method.shape) for part in data)
    check_selectable(config.train.best, method, len(heldout))
    params = resolved(method, params, train)
    moving = None
    if method.moving is not None:
        moving = MovingReference(config, learner.policy, learner.plan, method.moving(params))
        learner = replace(learner, live=moving)
    budget = settle(config, folder, learner, (method, params), train, say, ranks)

    def split(examples: Sequence[Rendered], title: str) -> Split:
        return make_split(config, learner, method, examples, title, say, budget.first, ranks)

    train_split, heldout_split = split(train, "reference"), split(heldout, "reference, held-out")
    mismatches = None
    if method.mismatched:
        epochs = _epochs(config, train)
        others = [mismatched(train, config.seed, epoch) for epoch in range(epochs)]
        mismatches = Mismatches(
            [split(part, "reference, mismatched") for part in others],
            split(mismatched_with(heldout, train, config.seed), "reference, held-out mismatched"),
        )
    return Task(
        policy=learner.policy,
        method=method,
        params=params,
        train=train_split,
        heldout=heldout_split,
        optim=config.optim,
        config=config.train,
        lr=learner.lr,
        seed=config.seed,
        folder=folder,
        budget=budget,
        ranks=ranks,
        mismatches=mismatches,
        moving=moving,
    )


def render(renderer: Renderer, examples: Sequence[Example], shape: str) -> list[Rendered]:
    """Examples as a method of that shape sees them: one each, or a text's stretches."""
    return [one for example in examples for one in renderer.render_as(example, shape)]


def resolved(method: Method, params: Any, train: Sequence[Rendered]) -> Any:
    """The parameters, with those filled that follow from the training data."""
    if method.resolve is None:
        return params
    up = sum(example.desirable is True for example in train)
    down = sum(example.desirable is False for example in train)
    return method.resolve(params, Counts(len(train), up, down))


def _epochs(config: RunConfig, train: Sequence[Rendered]) -> int:
    """Epochs that the run begins."""
    sampler = Sampler(len(train), config.train.batch_size, config.seed)
    steps = sampler.total_steps(config.train.epochs, config.train.max_steps)
    return math.ceil(steps / sampler.steps_per_epoch)
