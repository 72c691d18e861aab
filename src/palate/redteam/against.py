"""Two models under the same attacks: the difference by category, with a paired test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluate.intervals import Interval, newcombe_paired
from palate.redteam.results import broken_by_attack
from palate.resumable import Row


@dataclass(frozen=True, slots=True)
class Difference:
    """Of `total` that both models have: how many only the old one, only the new one, both.

    `points` is the new share minus the old one with its 95 % interval (Newcombe's for pairs), `p`
    McNemar's exact two-sided test that both shares are equal.
    """

    name: str
    total: int
    both: int
    only_old: int
    only_new: int
    points: float
    interval: Interval
    p: float


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's test, exact and two-sided (McNemar 1947, Psychometrika 12:153-157).

    Of the n trials in which the two differ, under equal shares half go each way:
    p = min(1, 2 Σ_{i ≤ min} C(n, i) / 2^n).
    """
    n = only_one + only_other
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(min(only_one, only_other) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def difference(name: str, old: Mapping[str, bool], new: Mapping[str, bool]) -> Difference | None:
    """The trials that both decided; None where there are none."""
    keys = [key for key in old if key in new]
    if not keys:
        return None
    both = sum(old[key] and new[key] for key in keys)
    only_old = sum(old[key] and not new[key] for key in keys)
    only_new = sum(new[key] and not old[key] for key in keys)
    neither = len(keys) - both - only_old - only_new
    return Difference(
        name,
        len(keys),
        both,
        only_old,
        only_new,
        (only_new - only_old) / len(keys),
        newcombe_paired(both, only_new, only_old, neither),
        mcnemar(only_old, only_new),
    )


def compare(
    old: tuple[Sequence[Row], Sequence[Row]], new: tuple[Sequence[Row], Sequence[Row]]
) -> list[dict[str, Any]]:
    """(attacks, benign) rows of both models: attacks broken by category and in all; refusals.

    An attack is one trial however many forms it has: these are no independent trials.
    """
    rows, before = new[0], old[0]
    names = list(dict.fromkeys(row["category"] for row in rows))
    found = [
        difference(
            name,
            broken_by_attack(row for row in before if row["category"] == name),
            broken_by_attack(row for row in rows if row["category"] == name),
        )
        for name in names
    ]
    found.append(difference("all attacks", broken_by_attack(before), broken_by_attack(rows)))
    found.append(difference("benign refused", _refused(old[1]), _refused(new[1])))
    return [asdict(one) for one in found if one is not None]


def _refused(benign: Sequence[Row]) -> dict[str, bool]:
    return {row["key"]: row["refused"] for row in benign if row["refused"] is not None}
