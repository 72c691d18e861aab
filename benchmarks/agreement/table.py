"""What was found, as a table, and whether it is as it should be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .cases import Case
from .ours import Found

TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: the largest difference of losses, and of gradients."""

    case: Case
    loss: float
    gradient: float

    @property
    def wrong(self) -> bool:
        """A difference without an explanation, or an explanation without a difference."""
        agree = self.loss <= TOLERANCE and self.gradient <= TOLERANCE  # NaN does not
        return agree == bool(self.case.differs)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.wrong:
            return "explained, but equal" if self.case.differs else "DIFFERENT, and unexplained"
        return self.case.differs or "equal"


def compare(case: Case, ours: Found, theirs: dict[str, Any]) -> Row:
    """Absolute differences, of losses above 1 relative to their size."""
    return Row(
        case,
        loss=largest(zip(ours.losses, theirs["losses"], strict=True)),
        gradient=largest(
            pair
            for mine, other in zip(ours.gradients, theirs["gradients"], strict=True)
            for pair in zip(mine, other, strict=True)
        ),
    )


def largest(pairs: Iterable[tuple[float, float]]) -> float:
    """The largest difference; NaN if either side has one, or an infinity."""
    found = 0.0
    for one, other in pairs:
        if not (math.isfinite(one) and math.isfinite(other)):
            return math.nan
        found = max(found, abs(one - other) / max(1.0, abs(one)))
    return found


def markdown(rows: Sequence[Row], absent: dict[str, str]) -> str:
    """A line for each comparison, and one for each method that TRL does not have."""
    lines = ["| method | in TRL | loss | gradient | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.case.name} | `{row.case.theirs_name}` | {shown(row.loss)} | "
        f"{shown(row.gradient)} | {row.verdict} |"
        for row in rows
    ]
    lines += [f"| {name} | – | – | – | {why} |" for name, why in absent.items()]
    return "\n".join(lines)


def shown(difference: float) -> str:
    """Two digits, or what it is."""
    if math.isnan(difference):
        return "not finite"
    return "0" if difference == 0 else f"{difference:.1e}"
