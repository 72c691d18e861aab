"""The micro-batches of a step and of the held-out examples: what each rank computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palate.losses.batch import State
from palate.model.policy import Policy
from palate.tokens.divide import divide
from palate.tokens.sampler import cut
from palate.train.heldout import KEPT, Each, Measured
from palate.train.metrics import Averages
from palate.train.parallel import Ranks
from palate.train.prefetch import ahead
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, StepResult, compute_step, pack
from palate.train.task import Ready, Split, Task


class Given:
    """Steps over data that is there: the micro-batches of each are a pure function of its number.

    They are built one step ahead. Several ranks agree on how many each runs when they build them,
    so they build them in turn.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.sampler = task, task.sampler
        self._heldout: Packed | None = None

    @property
    def total_steps(self) -> int:
        """By the recipe's epochs, or its most steps."""
        return self.task.total_steps

    def steps(self, numbers: range) -> Iterator[tuple[int, Ready]]:
        """Each step's rows in micro-batches."""
        task, sampler = self.task, self.sampler
        per_epoch = sampler.steps_per_epoch

        def make(index: int) -> Ready:
            rows, tokens = sampler.batch(index), task.budget.at(index)
            batches = micro_batches(task.policy, task.ranks, task.train, rows, tokens)
            over = _over(task, rows, index // per_epoch)
            return Ready(task.train, rows, tokens, batches, (index + 1) / per_epoch, over)

        if task.ranks.world == 1:
            return ahead(make, numbers)
        return ((index, make(index)) for index in numbers)

    def measure(self, state: State) -> Measured | None:
        """Loss and metrics over the held-out examples, packed once and measured often."""
        if self._heldout is None:
            self._heldout = pack_heldout(self.task)
        if self._heldout is None:
            return None
        return measured(self.task, self._heldout, state)

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Nothing: the step's number says it all."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to let go of."""


def pack_heldout(task: Task) -> Packed | None:
    """The held-out examples, sorted as a whole so that they share all they can; None without."""
    rows = range(len(task.heldout.examples))
    if not rows:
        return None
    batches = micro_batches(task.policy, task.ranks, task.heldout, rows, task.budget.first)
    return Packed(batches, task.heldout.reference, _over(task, rows, None))


def measured(task: Task, heldout: Packed, state: State) -> Measured:
    """Loss and metrics over the held-out examples, and of some the value of each example."""
    averages = Averages()
    result = compute(task, heldout, state, backward=False)
    averages.add(result.metrics)
    means = {**averages.read(), "loss": float(result.loss)}
    examples = task.heldout.examples
    values = _by_row(task, heldout, result, len(examples))
    tokens = [[sum(branch.mask) for branch in one.branches] for one in examples]
    return Measured(
        len(examples), means, Each([one.example_id for one in examples], tokens, values)
    )


def _by_row(task: Task, heldout: Packed, result: StepResult, n: int) -> dict[str, list[float]]:
    """The kept metrics in the order of the examples; a step gives them in that of its batches."""
    names = [name for name in KEPT if name in result.metrics]
    if not names:
        return {}
    own = [row for micro in heldout.batches if not micro.filler for row in micro.rows]
    rows = task.ranks.gather([torch.tensor(own, dtype=torch.int64)])[0]
    found = {}
    for name in names:
        ordered = torch.full((n,), torch.nan, dtype=torch.float64)
        ordered[rows] = result.metrics[name].cpu().double()
        found[name] = ordered.tolist()
    return found


def compute(task: Task, packed: Packed, state: State, *, backward: bool = True) -> StepResult:
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


def micro_batches(
    policy: Policy, ranks: Ranks, split: Split, rows: Sequence[int], tokens: int
) -> list[MicroBatch]:
    """This rank's part of `rows`, in micro-batches of at most so many tokens."""
    examples = split.examples
    share = policy.layout == "tree"
    mine = list(rows)
    if ranks.world > 1:
        mine = divide(examples, rows, ranks.world, share=share, price=policy.price)[ranks.rank]
    cuts = cut(examples, mine, tokens, share=share)
    fillers = ranks.fillers(len(cuts))
    return pack(examples, rows, cuts, share=share, device=policy.device, fillers=fillers)


def _over(task: Task, rows: Sequence[int], epoch: int | None) -> Packed | None:
    """The rows' mismatched examples, of an epoch or (None) held out; None without any."""
    if task.mismatches is None:
        return None
    split = task.mismatches.heldout if epoch is None else task.mismatches.train[epoch]
    return Packed(
        micro_batches(task.policy, task.ranks, split, rows, task.budget.first), split.reference
    )
