"""Which charts a run has: of what was recorded, and in words of what was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from palate.evaluate.runfolder import Table as Facts
from palate.evaluate.runfolder import number
from palate.evaluate.wording import decimal
from palate.ui.runs.columns import Numbers, Table
from palate.ui.runs.metrics import Metrics

Look = Literal["first", "second", "third", "fourth"]
TOKENS, COMPUTED = "tokens_per_second", "computed_per_second"
"""Derived columns: tokens of the examples a second, and those that were computed for them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: `KIND.NAME` of what it shows, its words, colour, and dashes."""

    key: str
    label: str
    look: Look = "first"
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its unit stands at the axis, `note` says what it means. `share` draws per cent."""

    id: str
    title: str
    unit: str
    note: str
    lines: tuple[Line, ...]
    share: bool = False


def _both(name: str) -> tuple[Line, Line]:
    return Line(f"train.{name}", "training"), Line(f"heldout.{name}", "held-out", "second", True)


CHARTS = (
    Chart(
        "loss",
        "Loss",
        "nats",
        "What the steps minimise. Held out, it rises again where the run learns by heart.",
        _both("loss"),
    ),
    Chart(
        "margin",
        "Reward margin",
        "β · nats",
        "By how much the chosen answer's implicit reward is above the rejected one's.",
        _both("margin"),
    ),
    Chart(
        "accuracy",
        "Accuracy",
        "% of pairs",
        "Pairs whose chosen answer has the higher reward; a coin gets 50.",
        _both("accuracy"),
        share=True,
    ),
    Chart(
        "rewards",
        "Chosen and rejected apart",
        "β · nats",
        "Implicit rewards. Both may fall while the margin grows: common, and harmless as long as "
        "the samples stay good.",
        (
            Line("train.chosen_reward", "chosen, training", "third"),
            Line("train.rejected_reward", "rejected, training", "fourth"),
            Line("heldout.chosen_reward", "chosen, held-out", "third", True),
            Line("heldout.rejected_reward", "rejected, held-out", "fourth", True),
        ),
    ),
    Chart(
        "logps",
        "Log-probability of the answers",
        "nats an answer",
        "log π of the whole answer, chosen and rejected.",
        (
            Line("train.chosen_logp", "chosen, training", "third"),
            Line("train.rejected_logp", "rejected, training", "fourth"),
            Line("heldout.chosen_logp", "chosen, held-out", "third", True),
            Line("heldout.rejected_logp", "rejected, held-out", "fourth", True),
        ),
    ),
    Chart(
        "reward",
        "Reward of sampled answers",
        "the judge's scale",
        "Of answers drawn from the model as it is then.",
        (
            Line("rollout.reward", "rollouts"),
            Line("heldout.reward", "held-out", "second", True),
        ),
    ),
    Chart(
        "passed",
        "Sampled answers that pass",
        "% of answers",
        "Of answers drawn from the model as it is then.",
        (
            Line("rollout.passed", "rollouts"),
            Line("heldout.passed", "held-out", "second", True),
        ),
        share=True,
    ),
    Chart(
        "kl",
        "KL on sampled text",
        "nats an answer",
        "How far the model has moved from its reference, on what it says itself.",
        (Line("rollout.kl", "rollouts"), Line("train.kl", "training", "second", True)),
    ),
    Chart(
        "length",
        "Answer length",
        "tokens",
        "Of sampled answers.",
        (
            Line("rollout.length", "rollouts"),
            Line("heldout.length", "held-out", "second", True),
        ),
    ),
    Chart(
        "ended",
        "Answers that come to an end",
        "% of answers",
        "Sampled answers that the model ended itself, before the limit.",
        (
            Line("rollout.ended", "rollouts"),
            Line("heldout.ended", "held-out", "second", True),
        ),
        share=True,
    ),
    Chart(
        "speed",
        "Tokens a second",
        "tokens/s",
        "Of the examples as given; and those that were computed, a shared beginning once.",
        (
            Line(f"train.{TOKENS}", "of the examples"),
            Line(f"train.{COMPUTED}", "computed", "second", True),
        ),
    ),
    Chart(
        "memory",
        "Memory",
        "GiB",
        "What the process holds; on a GPU the most that it held so far.",
        (Line("train.memory_gib", "training"),),
    ),
    Chart(
        "steering",
        "Gradient norm",
        "before clipping",
        "A rise that stays is the first sign of divergence.",
        (Line("train.grad_norm", "gradient norm"),),
    ),
    Chart("lr", "Learning rate", "", "", (Line("train.lr", "learning rate"),)),
)

_SHOWN = {line.key for chart in CHARTS for line in chart.lines}
# What is in other charts, or is a count and no measurement.
_PLAIN = ("epoch", "seconds", "examples", "unique_tokens", "path_tokens", "n", "memory", "step")


def column(table: Table, name: str) -> Numbers:
    """A column as it was recorded, or one that follows from others."""
    if name == TOKENS:
        return _a_second(table, "path_tokens")
    if name == COMPUTED:
        return _a_second(table, "unique_tokens")
    if name == "memory_gib":
        return table.column("memory") / 2**30
    return table.column(name)


def _a_second(table: Table, name: str) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return table.column(name) / table.column("seconds")


def values(metrics: Metrics, key: str) -> tuple[Numbers, Numbers]:
    """Steps and values of `KIND.NAME`; empty where there is no such kind."""
    kind, _, name = key.partition(".")
    table = metrics.table(kind)
    return table.steps, column(table, name)


def charts_of(metrics: Metrics) -> list[dict[str, Any]]:
    """The charts in which something is to be seen, and one for everything else recorded."""
    shown = [chart for chart in CHARTS if any(_is_recorded(metrics, x.key) for x in chart.lines)]
    found = [
        {**asdict(chart), "lines": [asdict(x) for x in chart.lines if _is_recorded(metrics, x.key)]}
        for chart in shown
    ]
    return [{**chart, "more": False} for chart in found] + _rest(metrics)


def _rest(metrics: Metrics) -> list[dict[str, Any]]:
    """What has no chart of its own, by name: training and held-out together."""
    names: dict[str, list[Line]] = {}
    looks: Mapping[str, tuple[Look, bool]] = {
        "train": ("first", False),
        "rollout": ("first", False),
        "heldout": ("second", True),
    }
    words = {"train": "training", "heldout": "held-out", "rollout": "rollouts"}
    for kind, table in metrics.tables.items():
        for name in table.names:
            key = f"{kind}.{name}"
            if key not in _SHOWN and name not in _PLAIN and _is_recorded(metrics, key):
                names.setdefault(name, []).append(Line(key, words[kind], *looks[kind]))
    return [
        {**asdict(Chart(f"more-{name}", name, "", "", tuple(lines))), "more": True}
        for name, lines in names.items()
    ]


def _is_recorded(metrics: Metrics, key: str) -> bool:
    return bool(np.isfinite(values(metrics, key)[1]).any())


def missing(metrics: Metrics, results: Facts) -> list[dict[str, str]]:
    """What one may look for and does not find: what it is, and why or where else it is."""
    found: list[dict[str, str]] = []

    def lacks(*ids: str) -> bool:
        lines = [x.key for chart in CHARTS if chart.id in ids for x in chart.lines]
        return not any(_is_recorded(metrics, key) for key in lines)

    def say(what: str, why: str) -> None:
        found.append({"what": what, "why": why})

    if metrics.table("train").rows and lacks("margin", "reward"):
        say("Margins and accuracy", "this method learns from single answers, not from pairs.")
    if lacks("kl"):
        kl = number(results, "comparison", "kl")
        say(
            "KL on sampled text",
            "runs on given pairs sample nothing while they train; it is measured at the end."
            if kl is None
            else f"measured at the end: {decimal(kl, 1)} nats an answer.",
        )
    if lacks("length"):
        after = number(results, "comparison", "after", "tokens")
        say(
            "Answer length",
            "nothing is sampled while it trains; it is measured at the end."
            if after is None
            else f"measured at the end: {decimal(after, 1)} tokens an answer.",
        )
    if not metrics.table("heldout").rows:
        say("Held-out figures", "nothing is held out, or it has not been measured yet.")
    if metrics.table("train").rows and lacks("memory"):
        say("Memory", "the trainer does not write it into metrics.jsonl.")
    return found
