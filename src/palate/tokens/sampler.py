"""The order of examples, and how a step is cut into micro-batches.

Order is a pure function of (seed, epoch, step), so a resumed run sees exactly the
batches it would have seen. Within one optimizer step, examples that share a
beginning are put into the same micro-batch: sums do not depend on the cut.

Two orders. `examples` draws each example by itself. `conversations` draws whole
conversations, whose examples share their history, so that more of a step's tokens are
shared; its steps are less mixed (both are measured in docs/performance.md).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np

from palate.records import Example
from palate.tokens.render import Rendered
from palate.tokens.tree import common_prefix, packed_tokens

Order = Literal["examples", "conversations"]


class Sampler:
    """Draws `batch_size` of `count` examples a step, every example once an epoch.

    An epoch's last batch is smaller when `batch_size` does not divide `count`; nothing
    is dropped or repeated. With `conversations`, which names the conversation of each
    example, whole conversations are drawn (see `whole_conversations`).
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        conversations: Sequence[str] | None = None,
    ) -> None:
        if count < 1:
            raise ValueError("there is nothing to train on: the training split is empty")
        assert conversations is None or len(conversations) == count
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = math.ceil(count / batch_size)
        self.groups = None if conversations is None else _rows_by_name(conversations)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @classmethod
    def over(
        cls, examples: Sequence[Rendered | Example], batch_size: int, seed: int, order: Order
    ) -> Sampler:
        """The sampler of a recipe's `train.order`."""
        names = [example.conversation for example in examples]
        return cls(len(examples), batch_size, seed, names if order == "conversations" else None)

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Optimizer steps of the whole run (a fraction of an epoch is rounded up)."""
        steps = math.ceil(epochs * self.steps_per_epoch)
        return steps if max_steps is None else min(steps, max_steps)

    def batch(self, step: int) -> list[int]:
        """Example indices of optimizer step `step`, counted from 0."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(epoch))
        return list(self._epoch[1][within])

    def _batches(self, epoch: int) -> list[list[int]]:
        draw = np.random.default_rng([self.seed, epoch])
        if self.groups is not None:
            drawn = [self.groups[i] for i in draw.permutation(len(self.groups))]
            return whole_conversations(drawn, self.batch_size)
        rows = draw.permutation(self.count).tolist()
        return [rows[i : i + self.batch_size] for i in range(0, self.count, self.batch_size)]


def whole_conversations(drawn: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Batches of exactly `batch_size` rows (the last may be smaller) from groups in drawn order.

    A batch begins with the first group that is left, and goes on with the next that fit whole.
    Only where none does is one divided, and what is left of it begins the next batch; a group
    larger than a batch fills several.
    """
    waiting: dict[int, deque[int]] = {}  # positions in `drawn`, by size, in order
    for position, group in enumerate(drawn):
        waiting.setdefault(len(group), deque()).append(position)

    def take(room: int) -> Sequence[int]:
        """The first group of at most `room` rows; the first of all where none is so small."""
        fitting = [size for size in waiting if size <= room or room == batch_size]
        size = min(fitting or waiting, key=lambda s: waiting[s][0])
        position = waiting[size].popleft()
        if not waiting[size]:
            del waiting[size]
        return drawn[position]

    batches: list[list[int]] = []
    rest: list[int] = []
    while waiting or rest:
        rows = rest
        while waiting and len(rows) < batch_size:
            rows = [*rows, *take(batch_size - len(rows))]
        batches.append(rows[:batch_size])
        rest = rows[batch_size:]
    return batches


def _rows_by_name(names: Sequence[str]) -> list[list[int]]:
    """Rows of each conversation, in order of first appearance; a row without a name is alone."""
    groups: dict[str | int, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name or row, []).append(row)
    return list(groups.values())


def cut(
    examples: Sequence[Rendered], rows: Sequence[int], budget: int, *, share: bool = True
) -> list[list[int]]:
    """Group `rows` (indices into `examples`) into micro-batches of at most `budget` tokens.

    Tokens are those that will be computed (`computed_tokens`): unique ones when `share`, else
    those of padded rows. Neighbours in token order share the longest beginnings, so rows are
    sorted by prompt first; padded rows are sorted by length. One example that exceeds the
    budget alone makes a micro-batch of its own.
    """
    if not share:
        return _cut_padded(examples, rows, budget)
    queue = deque(sorted(rows, key=lambda i: (tuple(examples[i].branches[0].ids), i)))
    cuts: list[list[int]] = []
    while queue:
        part, previous, room = [], (), budget  # type: tuple[list[int], Sequence[int], int]
        while queue and (not part or cost(examples[queue[0]], previous, share=True) <= room):
            room -= cost(examples[queue[0]], previous, share=True)
            part.append(queue.popleft())
            previous = examples[part[-1]].branches[0].ids
        # The forest leaves out sharing that does not pay, which only the whole part can tell.
        fit = _fitting(examples, part, budget)
        queue.extendleft(reversed(part[fit:]))
        cuts.append(part[:fit])
    return cuts


def _fitting(examples: Sequence[Rendered], part: Sequence[int], budget: int) -> int:
    """How many of the first rows of `part` make a forest within `budget`; at least one."""
    fit, above = 1, len(part) + 1
    size = len(part)  # nearly always the answer, or close above it
    while fit < size:
        if computed_tokens(examples, part[:size], share=True) <= budget:
            fit = size
        else:
            above = size
        size = (fit + above) // 2
    return fit


def _cut_padded(examples: Sequence[Rendered], rows: Sequence[int], budget: int) -> list[list[int]]:
    cuts: list[list[int]] = []
    count = 0
    for row in sorted(rows, key=lambda i: (_longest(examples[i]), i)):
        branches, width = len(examples[row].branches), _longest(examples[row])
        if cuts and (count + branches) * width <= budget:
            cuts[-1].append(row)
            count += branches
        else:
            cuts.append([row])
            count = branches
    return cuts


def computed_tokens(examples: Sequence[Rendered], part: Sequence[int], *, share: bool) -> int:
    """Tokens that a micro-batch of these rows computes, padding included where it pads."""
    if share:
        return packed_tokens([branch.ids for row in part for branch in examples[row].branches])
    return sum(len(examples[i].branches) for i in part) * max(_longest(examples[i]) for i in part)


def _longest(example: Rendered) -> int:
    return max(len(branch.ids) for branch in example.branches)


def cost(example: Rendered, previous: Sequence[int], *, share: bool) -> int:
    """Tokens that `example` adds to a micro-batch whose last path was `previous`.

    An estimate when `share`: beginnings too short to be shared count as shared.
    """
    if not share:
        return len(example.branches) * _longest(example)
    prompt = example.prompt_ids
    answers = sum(len(branch.ids) - len(prompt) for branch in example.branches)
    return len(prompt) - common_prefix(previous, prompt) + answers
