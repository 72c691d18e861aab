"""The order of examples, and how a step is cut into micro-batches.

Order is a pure function of (seed, epoch, step), so a resumed run sees exactly the
batches it would have seen. Within one optimizer step, examples that share a
beginning are put into the same micro-batch: sums do not depend on the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from palate.tokens.render import Rendered
from palate.tokens.tree import common_prefix


class Sampler:
    """Draws `batch_size` of `count` examples a step, every example once an epoch.

    An epoch's last batch is smaller when `batch_size` does not divide `count`; nothing
    is dropped or repeated.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < 1:
            raise ValueError("there is nothing to train on: the training split is empty")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = math.ceil(count / batch_size)

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Optimizer steps of the whole run (a fraction of an epoch is rounded up)."""
        steps = math.ceil(epochs * self.steps_per_epoch)
        return steps if max_steps is None else min(steps, max_steps)

    def batch(self, step: int) -> list[int]:
        """Example indices of optimizer step `step`, counted from 0."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        begin = within * self.batch_size
        return [int(i) for i in order[begin : begin + self.batch_size]]


def cut(
    examples: Sequence[Rendered], rows: Sequence[int], budget: int, *, share: bool = True
) -> list[list[int]]:
    """Group `rows` (indices into `examples`) into micro-batches of at most `budget` tokens.

    Counts unique tokens when `share`, all tokens otherwise. Neighbours in token order
    share the longest beginnings, so rows are sorted by prompt first. One example that
    exceeds the budget alone makes a micro-batch of its own.
    """
    order = sorted(rows, key=lambda i: (tuple(examples[i].branches[0].ids), i))
    cuts: list[list[int]] = []
    room = 0
    previous: Sequence[int] = ()
    for row in order:
        example = examples[row]
        new_batch = cost(example, (), share=share)
        fresh = cost(example, previous, share=share)
        if cuts and fresh <= room:
            cuts[-1].append(row)
            room -= fresh
        else:
            cuts.append([row])
            room = budget - new_batch
        previous = example.branches[0].ids
    return cuts


def cost(example: Rendered, previous: Sequence[int], *, share: bool) -> int:
    """Tokens that `example` adds to a micro-batch whose last path was `previous`."""
    if not share:
        return sum(len(branch.ids) for branch in example.branches)
    prompt = example.prompt_ids
    answers = sum(len(branch.ids) - len(prompt) for branch in example.branches)
    return len(prompt) - common_prefix(previous, prompt) + answers
