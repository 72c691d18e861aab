"""May the model go out? Each check of the recipe's `gate` section against what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluate.runfolder import number, section
from palate.sections import GateConfig

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: `value` as measured (None: it was not), `limit`, and whether it holds.

    `above` says that the value must lie above the limit, else below it. `about` is the sentence for
    people, `unit` how both numbers are shown: "share", "points" (of a share), "change" (relative)
    or "nats". `cure` is said where nothing was measured.
    """

    name: str
    about: str
    value: float | None
    limit: float
    above: bool
    unit: str
    passed: bool
    cure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where in the report the value stands, how it is read, and how it is shown."""

    about: str
    path: tuple[str, ...]
    unit: str
    read: Callable[[Any], float | None]
    above: bool = False

    def value(self, report: Table) -> float | None:
        here: Any = report
        for key in self.path:
            here = here.get(key) if isinstance(here, Mapping) else None
        return self.read(here)


def _plain(value: Any) -> float | None:
    return number({"": value}, "")


def _low(value: Any) -> float | None:
    """The lower bound of an interval."""
    return _plain(value[0]) if isinstance(value, list | tuple) and value else None


def _fall(value: Any) -> float | None:
    found = _plain(value)
    return None if found is None else -found


def _size(value: Any) -> float | None:
    found = _plain(value)
    return None if found is None else abs(found)


KINDS: dict[str, _Kind] = {
    "win_rate": _Kind(
        "win rate against the base, lower bound", ("wins", "interval"), "share", _low, above=True
    ),
    "controlled_win_rate": _Kind(
        "win rate at equal length, lower bound",
        ("wins", "controlled", "interval"),
        "share",
        _low,
        above=True,
    ),
    "accuracy": _Kind(
        "held-out pairs ranked right, lower bound",
        ("preferences", "accuracy_interval"),
        "share",
        _low,
        above=True,
    ),
    "rule": _Kind(
        "answers that pass the rule", ("answers", "after", "share"), "share", _plain, above=True
    ),
    "length_change": _Kind(
        "change of the answers' length in words", ("answers", "words_change"), "change", _size
    ),
    "finished_drop": _Kind(
        "fall of the share of answers that end", ("text", "finished_drop"), "points", _plain
    ),
    "repetition_rise": _Kind(
        "rise of the share of repeated word sequences",
        ("text", "repetition_rise"),
        "points",
        _plain,
    ),
    "variety_drop": _Kind(
        "fall of distinct word pairs", ("text", "variety_drop"), "change", _plain
    ),
    "kl": _Kind("KL from the base, nats an answer", ("drift", "kl"), "nats", _plain),
    "perplexity_rise": _Kind(
        "rise of the demonstrations' perplexity", ("forgetting", "rise"), "change", _plain
    ),
    "instructions_drop": _Kind(
        "fall of the prompts whose instructions are kept",
        ("instructions", "change"),
        "points",
        _fall,
    ),
    "maths_drop": _Kind("fall of the right final numbers", ("maths", "change"), "points", _fall),
    "refusal_drop": _Kind(
        "fall of the unsafe prompts that are declined",
        ("safety", "unsafe", "change"),
        "points",
        _fall,
    ),
    "overrefusal_rise": _Kind(
        "rise of the harmless prompts that are refused",
        ("safety", "harmless", "change"),
        "points",
        _plain,
    ),
}
CURES = {
    "wins": "it needs a judge (evaluate.judge or evaluate.rule), and lengths that overlap",
    "answers": "it needs evaluate.rule, or answers with words",
    "safety": "evaluate.safety names no prompts of that kind",
}
"""By part, where the part is there and the figure in it is not."""


def checks(report: Table, gate: GateConfig) -> list[Check]:
    """Every check that the recipe asks for, in the order of its settings.

    A value on the limit does not pass, nor does one that was not measured.
    """
    found = []
    for name, kind in KINDS.items():
        limit = getattr(gate, name)
        if limit is None:
            continue
        value = kind.value(report)
        passed = value is not None and (value > limit if kind.above else value < limit)
        cure = ""
        if value is None:
            part = kind.path[0]
            why = section(report, "not_measured").get(part) or CURES.get(part, "not measured")
            cure = f"{why}; to leave the check out: gate.{name}=null"
        found.append(Check(name, kind.about, value, limit, kind.above, kind.unit, passed, cure))
    return found
