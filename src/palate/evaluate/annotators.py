"""The figures of several annotators, each with its 95 % interval or with why it has none.

Shape suffixes: G items, P patterns (items with the same counts), R resamples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.evaluate.intervals import percentile_interval, wilson
from palate.evaluate.shares import ENOUGH, RESAMPLES
from palate.judge.krippendorff import Metric, alpha, alpha_draws


@dataclass(frozen=True, slots=True)
class Figure:
    """A share or a coefficient over `count` items; `why` says what it, or its interval, lacks."""

    value: float | None
    low: float | None
    high: float | None
    count: int
    why: str = ""


NOBODY_TWICE = "no item has two votes yet"


def alpha_figure(
    units: Sequence[Sequence[Hashable]], metric: Metric = "nominal", seed: int = 0
) -> Figure:
    """Krippendorff's α, its interval from a bootstrap over the items (expanded percentiles).

    A bootstrap knows only what it saw: with fewer than five items on which all agree, or fewer
    than five on which somebody differs, there is no interval.
    """
    found = alpha(units, metric)
    if not found.units:
        return Figure(None, None, None, 0, NOBODY_TWICE)
    if found.alpha is None:
        return Figure(None, None, None, found.units, "every vote is the same word")
    fewer = min(found.agreed, found.units - found.agreed)
    if fewer < ENOUGH:
        kind = "agree" if fewer == found.agreed else "disagree"
        why = f"no interval: it takes {ENOUGH} items on which people {kind}, and there are {fewer}"
        return Figure(found.alpha, None, None, found.units, why)
    draws_R = alpha_draws(units, metric, seed, RESAMPLES)
    low, high = percentile_interval(draws_R[~np.isnan(draws_R)], found.units)
    return Figure(found.alpha, low, high, found.units)


def raw_agreement(units: Sequence[Sequence[Hashable]], seed: int = 0) -> Figure:
    """Of all pairs of votes on one item, the share that say the same.

    Items are resampled whole, as the pairs within one are alike. If all items have two votes, or
    fewer than five are mostly agreed or fewer than five mostly not, it is Wilson's interval with
    one trial an item.
    """
    rows = Counter(_pairs(unit) for unit in units if len(unit) > 1)
    if not rows:
        return Figure(None, None, None, 0, NOBODY_TWICE)
    counts_P2 = np.array(list(rows), dtype=float)
    weights_P = np.array(list(rows.values()))
    items = int(weights_P.sum())
    same, pairs = weights_P @ counts_P2
    means_P = counts_P2[:, 0] / counts_P2[:, 1]
    mostly = int(weights_P[means_P > 0.5].sum()), int(weights_P[means_P < 0.5].sum())
    share = float(same / pairs)
    if (counts_P2[:, 1] == 1).all() or min(mostly) < ENOUGH:
        return Figure(share, *wilson(share * items, items), items)
    rng = np.random.default_rng(seed)
    sums_R2 = rng.multinomial(items, weights_P / items, size=RESAMPLES) @ counts_P2
    return Figure(share, *percentile_interval(sums_R2[:, 0] / sums_R2[:, 1], items), items)


def share_figure(successes: int, trials: int, why: str) -> Figure:
    """A share of independent trials with Wilson's interval; `why` is said where there are none."""
    if not trials:
        return Figure(None, None, None, 0, why)
    return Figure(successes / trials, *wilson(successes, trials), trials)


def sign_test(successes: int, trials: int) -> float:
    """The two-sided exact test that successes and failures are equally likely.

    p = min(1, 2 P(X ≤ min(k, n − k))) for X binomial with n trials and chance 1/2: of a symmetric
    distribution, as likely outcomes and less likely ones. The tail is summed from
    log P(X = k) = log n! − log k! − log (n − k)! − n log 2 downward, P(k − 1) = P(k) k/(n − k + 1).
    Raises `ValueError` unless 0 ≤ successes ≤ trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a share")
    least = min(successes, trials - successes)
    if 2 * least == trials:
        return 1.0
    ratios = np.arange(least, 0, -1) / np.arange(trials - least + 1, trials + 1)
    tail = 1 + float(np.cumprod(ratios).sum())
    log_chance = math.lgamma(trials + 1) - math.lgamma(least + 1)
    log_chance -= math.lgamma(trials - least + 1) + trials * math.log(2)
    return min(1.0, 2 * tail * math.exp(log_chance))


def _pairs(unit: Sequence[Hashable]) -> tuple[int, int]:
    """Of the pairs of values in a unit, those that are equal, and all."""
    said = Counter(unit)
    return sum(math.comb(n, 2) for n in said.values()), math.comb(len(unit), 2)
