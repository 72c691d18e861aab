"""An optimizer step that runs out of memory starts again, with smaller micro-batches.

A failure inside backward leaves the gradients of what came before it, and of a part of the
model: they are thrown away with everything else, and the step begins at its first micro-batch.
Sums do not depend on the cut, so the gradient is that of an undisturbed step.

Of several ranks that hold all weights (`ddp`) each computes by itself between two exchanges. Where
memory runs out on one, all learn of it at the next exchange, all throw the step away, and all begin
it anew with the smallest budget that any of them needs: their plan stays one plan.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from palate.machine import ran_out_of_memory
from palate.train.budget import Budget
from palate.train.parallel import ALONE, Ranks
from palate.train.shapes import MicroBatch

T = TypeVar("T")


class DoesNotFit(ValueError):
    """One example alone needs more memory than there is."""


class RanOut(MemoryError):
    """Memory ran out on one rank at least; `here` says whether on this one."""

    def __init__(self, here: bool) -> None:
        super().__init__("out of memory on a rank")
        self.here = here


def together(work: Callable[[], T], ranks: Ranks) -> T:
    """`work`, in which ranks of `ddp` do not wait for each other; raises `RanOut` on all or none.

    Others wait inside it, where one that began anew would not be understood: there an error
    rises as it is.
    """
    if ranks.parallel != "ddp":
        return work()
    ran_out, found = False, None
    try:
        found = work()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        ran_out = True
    if ranks.most(ran_out):
        raise RanOut(ran_out)
    return found  # type: ignore[return-value]  # it is what `work` gave


def within_budget(
    step: int,
    budget: Budget,
    make: Callable[[int], Sequence[MicroBatch]],
    compute: Callable[[Sequence[MicroBatch]], T],
    weights: Iterable[Tensor],
    say: Callable[[str], None],
    ranks: Ranks = ALONE,
) -> T:
    """`compute(make(tokens))` of optimizer step `step` (from 0), with fewer tokens if need be.

    `compute` adds gradients to `weights` and changes nothing else until it returns. A budget
    that was too large is lowered for this step and all later ones, on all ranks, and said aloud.
    Raises `DoesNotFit` when it was one example alone, and where the weights are divided over
    ranks: the others may be waiting inside the step that one of them would begin anew.
    """
    while True:
        batches = _Followed(make(budget.at(step)))
        here = True
        try:
            return compute(batches)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RanOut):
                here = error.here
            if batches.current is None or not ran_out_of_memory(error):
                raise
        # Only here, behind the handler, is what the failed pass held let go with its traceback.
        tokens = smaller(batches.current, budget.at(step)) if here else budget.at(step)
        if ranks.divided:
            raise DoesNotFit(
                f"out of memory on rank {ranks.rank} in step {step + 1}: set "
                f"train.tokens_per_microbatch={tokens} and continue from the last checkpoint under "
                "another name, or start anew"
            )
        tokens = -ranks.most(-tokens)
        forget(weights)
        del batches
        release()
        budget.lower(step, tokens)
        say(
            f"out of memory in step {step + 1}: begun again, with at most {tokens} tokens in a "
            "micro-batch from now on (no result changes)"
        )


def smaller(failed: MicroBatch, budget: int) -> int:
    """Half of what the failed micro-batch held; raises `DoesNotFit` for a single example."""
    if len(failed.rows) == 1:
        raise DoesNotFit(
            f"out of memory on one example alone (training row {failed.rows[0]}, "
            f"{failed.forest.path_tokens} tokens): lower data.max_length, take a smaller model or "
            "adapter.kind=lora, or a machine with more memory"
        )
    return max(1, min(failed.forest.unique_tokens, budget) // 2)


def forget(weights: Iterable[Tensor]) -> None:
    """No gradient at all, rather than one of zeros or of a part."""
    for weight in weights:
        weight.grad = None


def release() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Followed(Sequence[MicroBatch]):
    """Micro-batches that remember which of them was handed out last: the one that fails."""

    def __init__(self, batches: Sequence[MicroBatch]) -> None:
        self.batches = batches
        self.current: MicroBatch | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: Any) -> Any:
        return self.batches[index]

    def __iter__(self) -> Iterator[MicroBatch]:
        for micro in self.batches:
            self.current = micro
            yield micro
