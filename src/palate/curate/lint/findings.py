"""What lint says: numbers with intervals, and findings with a sentence and a cure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["warning", "note"]
Unit = Literal["share", "number"]

# A rule that picks the winner in a share a of the pairs can lower the loss from ln 2 to the entropy
# H(a): of what there is to win, 1 % at 0.55, 7 % at 0.65, 19 % at 0.75. Below the first it is not
# worth a line; from the second on the model is sure to learn it.
NOTE_ABOVE = 0.55
WARNING_ABOVE = 0.65
SHOWN = 10  # examples named by a finding


@dataclass(frozen=True, slots=True)
class Number:
    """One measured number: what it is, its value and its 95 % interval, and on how many.

    `check` is the check that measured it; `unit` says whether it is a share, shown in percent.
    Where several numbers of one kind are looked at together, the interval is wider, so that all
    of them hold at once (Bonferroni).
    """

    check: str
    name: str
    value: float
    low: float
    high: float
    of: int
    unit: Unit = "share"

    @property
    def said(self) -> str:
        """``75 % [71, 79]``, or ``3.2 [2.8, 3.9]``."""
        if self.unit == "share":
            low, high = (f"{100 * bound:.0f}" for bound in (self.low, self.high))
            return f"{100 * self.value:.0f} % [{low}, {high}]"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: its number, a sentence for a person, a cure, and ids of examples that show it.

    `check` names the fault and never changes; a ``warning`` is about what training will most
    likely learn or measure wrongly, a ``note`` about what should be known.
    """

    check: str
    severity: Severity
    number: Number
    sentence: str
    cure: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured and found; `read` of `given` examples were looked at.

    `contests` is how many pairs (of labelled data: matched answers) the fitted checks used.
    """

    shape: str
    given: int
    read: int
    contests: int
    numbers: tuple[Number, ...]
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Report:
        """Inverse of `to_dict`."""
        findings = [
            Finding(
                **{
                    **found,
                    "number": Number(**found["number"]),
                    "examples": tuple(found["examples"]),
                }
            )
            for found in raw["findings"]
        ]
        numbers = tuple(Number(**number) for number in raw["numbers"])
        return cls(**{**raw, "numbers": numbers, "findings": tuple(findings)})


def severity_of(low: float) -> Severity | None:
    """What a rule is whose accuracy is at least `low`: a warning, a note, or nothing."""
    if low > WARNING_ABOVE:
        return "warning"
    return "note" if low > NOTE_ABOVE else None


def worth(accuracy: float) -> float:
    """Share of the loss ln 2 that a rule of this accuracy is worth: 1 − H(a)/ln 2, in [0, 1]."""
    if accuracy in (0.0, 1.0):
        return 1.0
    other = 1 - accuracy
    return 1 + (accuracy * math.log(accuracy) + other * math.log(other)) / math.log(2)


def percent(share: float) -> str:
    """0.75 as ``75 %``."""
    return f"{100 * share:.0f} %"


def listed(items: Sequence[str], most: int = 6) -> str:
    """``a, b and c``, with what cannot be printed taken out."""
    shown = [shown_text(item) for item in items[:most]]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def shown_text(text: str, most: int = 60) -> str:
    """Text from data on one line of a terminal: short, and without control characters."""
    flat = " ".join(text.split())
    flat = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in flat
    )
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
