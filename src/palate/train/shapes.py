"""From branch log-probs to the data shape that a method reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor

from palate.losses.batch import Demonstrations, Labelled, Pairs, Side
from palate.losses.method import Method
from palate.losses.samples import Samples
from palate.model.policy import NOTHING_MORE, Ask, BranchLogps, Policy, accumulation_dtype
from palate.model.statistics import Distribution, Statistic
from palate.tokens.tree import Forest

Batch = Pairs | Labelled | Demonstrations | Samples


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some examples of a step, packed.

    `rows` are indices into the data, `places` the examples' places in the step; `desirable_B`
    is 1 for a thumb up and 0 for one down, of labelled examples. `columns` and `told_B` are what
    samples came with, [N] and [B]. A `filler` is computed so that all ranks do the same, and
    counts for nothing.
    """

    forest: Forest
    rows: tuple[int, ...]
    places: tuple[int, ...]
    filler: bool = False
    desirable_B: Tensor | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)
    told_B: dict[str, Tensor] = field(default_factory=dict)


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
    asked: tuple[Statistic, ...] = tuple(n for n in ("kl", "log_sum_p2") if n in method.sums)
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
    if method.shape == "sample":
        return _samples(out, ref_N, micro)
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
        chosen, rejected = side(lambda x: x[0::2]), side(lambda x: x[1::2])
        return Pairs(chosen, rejected, {n: v.to(logp_B) for n, v in micro.told_B.items()})
    if method.shape == "labelled":
        assert micro.desirable_B is not None, "labelled examples have thumbs"
        return Labelled(side(lambda x: x), micro.desirable_B.to(logp_B))
    return Demonstrations(completion=side(lambda x: x))


def _samples(out: BranchLogps, ref_N: Tensor | None, micro: MicroBatch) -> Samples:
    """Token by token: what a policy gradient reads is no sum."""
    wide = accumulation_dtype(out.token_logps_N.device)
    columns = {name: values.to(wide) for name, values in micro.columns.items()}
    return Samples(
        logp_N=out.token_logps_N.to(wide),
        old_N=columns["old"],
        advantage_N=columns["advantage"],
        branches_N=out.branches_N,
        length_B=out.counts_B(),
        reward_B=micro.told_B["reward"].to(wide),
        sampler_N=columns.get("sampler"),
        return_N=columns.get("return"),
        old_value_N=columns.get("value"),
        value_N=None if out.values_N is None else out.values_N.to(wide),
        ref_N=None if ref_N is None else ref_N.to(wide),
    )


def _places_N(out: BranchLogps, length_B: Tensor) -> Tensor:
    """Each supervised token's place in its completion, from 0; tokens come branch by branch."""
    first_B = torch.cumsum(length_B, 0) - length_B
    steps_N = torch.arange(len(out.branches_N), device=out.branches_N.device)
    return steps_N - first_B[out.branches_N]
