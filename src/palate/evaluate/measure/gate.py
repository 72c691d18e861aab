"""May the model go out? Each check of the recipe's `gate` section against what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluate.runfolder import number
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
    about: str
    read: Callable[[Table], float | None]
    above: bool
    unit: str
    cure: str


def _at(*path: str) -> Callable[[Table], float | None]:
    return lambda report: number(report, *path)


def _low(*path: str) -> Callable[[Table], float | None]:
    """The lower bound of an interval."""

    def read(report: Table) -> float | None:
        here: Any = report
        for key in path:
            here = here.get(key) if isinstance(here, Mapping) else None
        return number({"low": here[0]}, "low") if isinstance(here, list | tuple) else None

    return read


def _fall(read: Callable[[Table], float | None]) -> Callable[[Table], float | None]:
    def fallen(report: Table) -> float | None:
        found = read(report)
        return None if found is None else -found

    return fallen


def _distance(read: Callable[[Table], float | None]) -> Callable[[Table], float | None]:
    def size(report: Table) -> float | None:
        found = read(report)
        return None if found is None else abs(found)

    return size


_SAMPLED = "there were no held-out prompts to answer, or evaluate.answers is 0"
_JUDGED = "name who compares answers: evaluate.judge or evaluate.rule"
KINDS: dict[str, _Kind] = {
    "win_rate": _Kind(
        "win rate against the base, lower bound", _low("wins", "interval"), True, "share", _JUDGED
    ),
    "controlled_win_rate": _Kind(
        "win rate at equal length, lower bound",
        _low("wins", "controlled", "interval"),
        True,
        "share",
        _JUDGED,
    ),
    "accuracy": _Kind(
        "held-out pairs ranked right, lower bound",
        _low("preferences", "accuracy_interval"),
        True,
        "share",
        "the data hold no held-out pairs",
    ),
    "rule": _Kind(
        "answers that pass the rule",
        _at("answers", "after", "share"),
        True,
        "share",
        "name a rule: evaluate.rule",
    ),
    "length_change": _Kind(
        "change of the answers' length in words",
        _distance(_at("answers", "words_change")),
        False,
        "change",
        _SAMPLED,
    ),
    "finished_drop": _Kind(
        "fall of the share of answers that end",
        _at("text", "finished_drop"),
        False,
        "points",
        _SAMPLED,
    ),
    "repetition_rise": _Kind(
        "rise of the share of repeated word sequences",
        _at("text", "repetition_rise"),
        False,
        "points",
        _SAMPLED,
    ),
    "variety_drop": _Kind(
        "fall of distinct word pairs",
        _at("text", "variety_drop"),
        False,
        "change",
        _SAMPLED,
    ),
    "kl": _Kind("KL from the base, nats an answer", _at("drift", "kl"), False, "nats", _SAMPLED),
    "perplexity_rise": _Kind(
        "rise of the demonstrations' perplexity",
        _at("forgetting", "rise"),
        False,
        "change",
        "name a file of good answers: evaluate.demonstrations",
    ),
    "instructions_drop": _Kind(
        "fall of the prompts whose instructions are kept",
        _fall(_at("instructions", "change")),
        False,
        "points",
        "name a set of instructions: evaluate.instructions",
    ),
    "maths_drop": _Kind(
        "fall of the right final numbers",
        _fall(_at("maths", "change")),
        False,
        "points",
        "name a file of questions: evaluate.maths",
    ),
    "refusal_drop": _Kind(
        "fall of the unsafe prompts that are declined",
        _fall(_at("safety", "unsafe", "change")),
        False,
        "points",
        "name a set with unsafe prompts: evaluate.safety",
    ),
    "overrefusal_rise": _Kind(
        "rise of the harmless prompts that are refused",
        _at("safety", "harmless", "change"),
        False,
        "points",
        "name a set with harmless prompts: evaluate.safety",
    ),
}


def checks(report: Table, gate: GateConfig) -> list[Check]:
    """Every check that the recipe asks for, in the order of its settings.

    A value on the limit does not pass, nor does one that was not measured.
    """
    found = []
    for name, kind in KINDS.items():
        limit = getattr(gate, name)
        if limit is None:
            continue
        value = kind.read(report)
        passed = value is not None and (value > limit if kind.above else value < limit)
        cure = "" if value is not None else f"{kind.cure}; or leave the check out: gate.{name}=null"
        found.append(Check(name, kind.about, value, limit, kind.above, kind.unit, passed, cure))
    return found
