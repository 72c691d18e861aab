"""From branch log-probs to the data shape that a method reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from palate.losses.batch import Demonstrations, Labelled, Pairs, Side
from palate.losses.method import Method
from palate.model.policy import NOTHING_MORE, Ask, BranchLogps, Policy
from palate.model.statistics import Distribution
from palate.tokens.tree import Forest

Batch = Pairs | Labelled | Demonstrations


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some examples of a step, packed.

    `rows` are indices into the data, `places` the examples' places in the step; `desirable_B`
    is 1 for a thumb up and 0 for one down, of labelled examples. A `filler` is computed so
    that all ranks do the same, and counts for nothing.
    """

    forest: Forest
    rows: tuple[int, ...]
    places: tuple[int, ...]
    filler: bool = False
    desirable_B: Tensor | None = None


class ReferenceLookup(Protocol):
    """log π_ref of every supervised token of a micro-batch, in the forest's order."""

    def __call__(self, micro: MicroBatch) -> Tensor:
        """Values [N]."""
        ...


class LiveLookup(ReferenceLookup, Protocol):
    """A reference that is computed when it is asked for, and has a whole distribution."""

    def distribution(self, micro: MicroBatch) -> tuple[Tensor, Distribution]:
        """The log-probs [N], and the distribution at the rows that reach the head."""
        ...


def batch_of(
    method: Method, policy: Policy, micro: MicroBatch, reference: ReferenceLookup | None
) -> Batch:
    """One forward pass of the policy, and the reference's values beside it."""
    forest, ref_N = micro.forest, None
    asked = tuple(name for name in ("kl", "log_sum_p2") if name in method.sums)
    ask = Ask(statistics=asked) if asked else NOTHING_MORE
    if method.reference:
        assert reference is not None, "the method declared a reference"
        if "kl" in asked:
            live = cast("LiveLookup", reference)  # `reference_mode` has seen to it
            ref_N, against = live.distribution(micro)
            ask = Ask(statistics=asked, against=against)
        else:
            ref_N = reference(micro)
    return shaped(method, policy(forest, ask), ref_N, micro)


def shaped(method: Method, out: BranchLogps, ref_N: Tensor | None, micro: MicroBatch) -> Batch:
    """The branches' sums as the method's data shape."""
    logp_B, length_B = out.sums_B(), out.counts_B()
    ratio_B, sums = None, {name: out.sums_B(value) for name, value in out.statistics.items()}
    if ref_N is not None:
        ratio_N = out.token_logps_N.to(logp_B.dtype) - ref_N.to(logp_B)
        ratio_B = out.sums_B(ratio_N)
        if "common_ratio" in method.sums:
            shorter_B = length_B.view(-1, 2).amin(dim=1).repeat_interleave(2)
            common_N = _places_N(out, length_B) < shorter_B[out.branches_N]
            sums["common_ratio"] = out.sums_B(torch.where(common_N, ratio_N, 0))

    def side(of: Callable[[Tensor], Tensor]) -> Side:
        return Side(
            of(logp_B),
            None if ratio_B is None else of(ratio_B),
            of(length_B),
            {name: of(value) for name, value in sums.items()},
            None if out.scores_B is None else of(out.scores_B.to(logp_B.dtype)),
        )

    if method.shape == "pair":
        return Pairs(chosen=side(lambda x: x[0::2]), rejected=side(lambda x: x[1::2]))
    if method.shape == "labelled":
        assert micro.desirable_B is not None, "labelled examples have thumbs"
        return Labelled(side(lambda x: x), micro.desirable_B.to(logp_B))
    return Demonstrations(completion=side(lambda x: x))


def _places_N(out: BranchLogps, length_B: Tensor) -> Tensor:
    """Each supervised token's place in its completion, from 0; tokens come branch by branch."""
    first_B = torch.cumsum(length_B, 0) - length_B
    steps_N = torch.arange(len(out.branches_N), device=out.branches_N.device)
    return steps_N - first_B[out.branches_N]
