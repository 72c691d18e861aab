"""How far two judges agree beyond chance: Cohen's κ, with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `count` things two judges said the same of `same`; `kappa` is None where it has no value.

    `low` and `high` bound κ; they are None where it has none.
    """

    count: int
    same: int
    kappa: float | None
    low: float | None = None
    high: float | None = None

    @property
    def share(self) -> float:
        """Raw agreement, in [0, 1]."""
        return self.same / self.count if self.count else math.nan


def agreement(
    first: Sequence[Hashable], second: Sequence[Hashable], confidence: float = 0.95
) -> Agreement:
    """What two judges said of the same things, in one order.

    κ = (p_o − p_e) / (1 − p_e), with p_o the share of equal words and p_e the share that two judges
    would reach who say each word as often, and independently (Cohen 1960, Educational and
    Psychological Measurement 20:37). Its interval is κ ± z·SE with the SE of Fleiss, Cohen and
    Everitt (1969, Psychological Bulletin 72:323), cut at ±1; it is asymptotic, and with fewer than
    some thirty things too narrow. There is no κ where both say one word only.
    """
    if len(first) != len(second):
        raise ValueError("two judges are compared on the same things")
    count = len(first)
    table = Counter(zip(first, second, strict=True))
    same = sum(number for (one, other), number in table.items() if one == other)
    if not count:
        return Agreement(0, 0, None)
    rows, columns = Counter(first), Counter(second)
    observed = same / count
    expected = sum(rows[word] * columns[word] for word in rows) / count**2
    if expected == 1:
        return Agreement(count, same, None)
    kappa = (observed - expected) / (1 - expected)
    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * _error(table, rows, columns)
    return Agreement(count, same, kappa, max(-1.0, kappa - spread), min(1.0, kappa + spread))


def _error(
    table: Counter[tuple[Hashable, Hashable]],
    rows: Counter[Hashable],
    columns: Counter[Hashable],
) -> float:
    """The standard error of κ (Fleiss, Cohen and Everitt 1969, formula 13).

    SE² = (Σᵢ pᵢᵢ [(1−p_e) − (pᵢ. + p.ᵢ)(1−p_o)]² + (1−p_o)² Σ_{i≠j} pᵢⱼ (p.ᵢ + pⱼ.)²
    − (p_o p_e − 2 p_e + p_o)²) / (n (1−p_e)⁴).
    """
    count = sum(table.values())
    observed = sum(n for (one, other), n in table.items() if one == other) / count
    expected = sum(rows[word] * columns[word] for word in rows) / count**2
    agreed = crossed = 0.0
    for (one, other), number in table.items():
        share = number / count
        if one == other:
            margins = (rows[one] + columns[one]) / count
            agreed += share * ((1 - expected) - margins * (1 - observed)) ** 2
        else:
            margins = (columns[one] + rows[other]) / count
            crossed += share * margins**2
    rest = (observed * expected - 2 * expected + observed) ** 2
    variance = agreed + (1 - observed) ** 2 * crossed - rest
    return math.sqrt(max(0.0, variance) / count) / (1 - expected) ** 2
