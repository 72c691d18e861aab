"""Which interval fits the answers at hand: shares before and after, and their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.evaluate.intervals import (
    Floats,
    Interval,
    bootstrap_sums,
    newcombe_paired,
    percentile_interval,
    square_and_add,
    wilson,
)

RESAMPLES = 10_000

# A bootstrap knows only what it saw: if all prompts but a few pass everything, it takes the
# share for all but certain (16 prompts, base rate 2 %: 95 % intervals that held in 69 %).
# This is the usual "five of each kind" for a normal approximation, counted in prompts.
ENOUGH = 5


@dataclass(frozen=True, slots=True)
class ShareIntervals:
    """After minus before (`points`), 95 % intervals of it and of both shares, method in words."""

    points: float
    before: Interval
    after: Interval
    difference: Interval
    method: str


def clustered_interval(values_GC: Floats, seed: int) -> Interval:
    """The interval of a share whose trials come in groups: per group, the sum and the number.

    Groups are resampled whole (expanded percentiles). Where fewer than five groups have a mean
    above 1/2 or fewer than five one below, a bootstrap is too sure, and it is Wilson's with one
    trial a group; so it is where every group has one trial of 0 or 1.
    """
    groups = len(values_GC)
    share = float(values_GC[:, 0].sum() / values_GC[:, 1].sum())
    means_G = values_GC[:, 0] / values_GC[:, 1]
    single = bool((values_GC[:, 1] == 1).all() and np.isin(means_G, (0.0, 1.0)).all())
    if single or min((means_G > 0.5).sum(), (means_G < 0.5).sum()) < ENOUGH:
        return wilson(share * groups, groups)
    sums_RC = bootstrap_sums(values_GC, seed, RESAMPLES)
    return percentile_interval(sums_RC[:, 0] / sums_RC[:, 1], groups)


def compare_shares(
    before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]], seed: int
) -> ShareIntervals:
    """Intervals for answers grouped by prompt: `before[i]` and `after[i]` share a prompt.

    One answer per prompt and stage: Wilson for each share, Newcombe's paired interval for the
    difference. Several: the prompts are resampled whole, both stages together (10,000 times,
    expanded percentiles). A stage in which fewer than five prompts had a pass, or fewer than
    five a failure, is too one-sided to resample: its interval is Wilson's with one trial per
    prompt (as if the answers to a prompt were copies: wide, never empty), and the difference
    is then Newcombe's hybrid of the two stage intervals.
    """
    if all(len(group) == 1 for group in [*before, *after]):
        return _single([group[0] for group in before], [group[0] for group in after])
    counts_GC = np.array(
        [(sum(b), len(b), sum(a), len(a)) for b, a in zip(before, after, strict=True)], dtype=float
    )
    prompts = len(before)
    totals_C = counts_GC.sum(axis=0)
    old, new = totals_C[0] / totals_C[1], totals_C[2] / totals_C[3]
    sums_RC = bootstrap_sums(counts_GC, seed, RESAMPLES)
    old_R, new_R = sums_RC[:, 0] / sums_RC[:, 1], sums_RC[:, 2] / sums_RC[:, 3]
    old_varies, new_varies = _varies(before), _varies(after)
    old_in = percentile_interval(old_R, prompts) if old_varies else wilson(old * prompts, prompts)
    new_in = percentile_interval(new_R, prompts) if new_varies else wilson(new * prompts, prompts)
    if old_varies and new_varies and np.ptp(new_R - old_R) > 0:
        difference = percentile_interval(new_R - old_R, prompts)
        method = f"bootstrap over the {prompts} prompts ({RESAMPLES:,} resamples)"
    else:
        difference = square_and_add(float(new), new_in, float(old), old_in)
        method = "Newcombe's hybrid, one trial per prompt (too one-sided for a bootstrap)"
    return ShareIntervals(float(new - old), old_in, new_in, difference, method)


def _single(before: list[bool], after: list[bool]) -> ShareIntervals:
    pairs = list(zip(after, before, strict=True))
    difference = newcombe_paired(
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
    )
    n = len(pairs)
    return ShareIntervals(
        (sum(after) - sum(before)) / n,
        wilson(sum(before), n),
        wilson(sum(after), n),
        difference,
        "Wilson's for each share, Newcombe's paired interval for the difference",
    )


def _varies(groups: Sequence[Sequence[bool]]) -> bool:
    with_pass = sum(any(group) for group in groups)
    with_failure = sum(not all(group) for group in groups)
    return with_pass >= ENOUGH and with_failure >= ENOUGH
