"""The micro-batches of a step and of the held-out examples: what each rank computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palate.tokens.divide import divide
from palate.tokens.sampler import Sampler, cut
from palate.train.prefetch import ahead
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, pack
from palate.train.task import Split, Task


@dataclass(frozen=True, slots=True)
class Ready:
    """The micro-batches of one optimizer step, at the budget that held when they were built.

    `over` are those of the step statistic, where it is of others.
    """

    rows: Sequence[int]
    tokens: int
    batches: Sequence[MicroBatch]
    over: Packed | None


def prepared(task: Task, sampler: Sampler, steps: Sequence[int]) -> Iterator[tuple[int, Ready]]:
    """Each step's micro-batches, a pure function of its number, built one step ahead.

    Several ranks agree on how many each runs when they build them, so they build them in turn.
    """

    def make(index: int) -> Ready:
        rows, tokens = sampler.batch(index), task.budget.at(index)
        batches = micro_batches(task, task.train, rows, tokens)
        return Ready(rows, tokens, batches, _over(task, rows, index // sampler.steps_per_epoch))

    if task.ranks.world == 1:
        return ahead(make, steps)
    return ((index, make(index)) for index in steps)


def pack_heldout(task: Task) -> Packed | None:
    """The held-out examples, sorted as a whole so that they share all they can.

    Packed once and measured often; None where there are none.
    """
    rows = range(len(task.heldout.examples))
    if not rows:
        return None
    batches = micro_batches(task, task.heldout, rows, task.budget.first)
    return Packed(batches, task.heldout.reference, _over(task, rows, None))


def micro_batches(task: Task, split: Split, rows: Sequence[int], tokens: int) -> list[MicroBatch]:
    """This rank's part of `rows`, in micro-batches of at most so many tokens."""
    examples = split.examples
    share, ranks = task.policy.layout == "tree", task.ranks
    mine = divide(examples, rows, ranks.world, share=share)[ranks.rank]
    cuts = cut(examples, mine, tokens, share=share)
    fillers = ranks.fillers(len(cuts))
    return pack(examples, rows, cuts, share=share, device=task.policy.device, fillers=fillers)


def _over(task: Task, rows: Sequence[int], epoch: int | None) -> Packed | None:
    """The rows' mismatched examples, of an epoch or (None) held out; None without any."""
    if task.mismatches is None:
        return None
    split = task.mismatches.heldout if epoch is None else task.mismatches.train[epoch]
    return Packed(micro_batches(task, split, rows, task.budget.first), split.reference)
