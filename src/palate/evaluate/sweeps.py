"""What a sweep found: a row for each setting, over its seeds, as cells of text and as numbers.

Everything is read from the cells' results.json. Where `seed` is an axis, a setting's row is the
mean over its seeds with Student's interval; else it is the run's own value and its own interval.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate.evaluate.intervals import Interval, student_quantile
from palate.evaluate.runfolder import Table, interval, number, section

SEED = "seed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell: its folder's name, its value on each axis, its results (None while incomplete)."""

    name: str
    settings: Mapping[str, str]
    results: Table | None


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its 95 % interval, where there is one."""

    value: float
    bounds: Interval | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A column: its name in results.csv, its title, how a run's value is found and written."""

    name: str
    title: str
    find: Callable[[Table], Value | None]
    write: str
    share: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A setting: its values on the axes but the seed's, its complete runs, and what they gave."""

    settings: Mapping[str, str]
    runs: int
    wanted: int
    values: Mapping[str, Value]

    @property
    def label(self) -> str:
        """`beta=0.1 name=ipo`, by the last part of each key."""
        return " ".join(f"{k.rpartition('.')[2]}={v}" for k, v in self.settings.items())


def last_stage(results: Table) -> Table:
    """The results of the last stage; of a run without stages, its own."""
    stages = results.get("stages")
    return stages[-1] if isinstance(stages, list) and stages else results


def _found(*path: str, bounds: tuple[str, ...] = ()) -> Callable[[Table], Value | None]:
    def find(results: Table) -> Value | None:
        last = last_stage(results)
        value = number(last, *path)
        return None if value is None else Value(value, interval(last, *bounds) if bounds else None)

    return find


def _kl(results: Table) -> Value | None:
    last = last_stage(results)
    kl, error = number(last, "comparison", "kl"), number(last, "comparison", "kl_error")
    if kl is None:
        return None
    return Value(kl, None if error is None else (kl - 1.96 * error, kl + 1.96 * error))


def _seconds(results: Table) -> Value | None:
    stages = results.get("stages")
    parts = stages if isinstance(stages, list) else [results]
    seconds = [number(part, "training", "seconds") for part in parts]
    known = [s for s in seconds if s is not None]
    return Value(sum(known)) if known else None


_AFTER = ("comparison", "after")
MEASURES = (
    Measure(
        "accuracy",
        "held-out accuracy",
        _found("heldout", "accuracy", bounds=("heldout", "accuracy_interval")),
        ".0%",
        share=True,
    ),
    Measure("margin", "margin", _found("heldout", "margin"), "+.2f"),
    Measure(
        "rule",
        "follows the rule",
        _found(*_AFTER, "share", bounds=(*_AFTER, "interval")),
        ".0%",
        share=True,
    ),
    Measure("kl", "KL, nats an answer", _kl, ".2f"),
    Measure("tokens", "tokens an answer", _found(*_AFTER, "tokens"), ".1f"),
    Measure("seconds", "seconds", _seconds, ".0f"),
)


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each setting, in the order in which the settings first occur."""
    groups: dict[tuple[tuple[str, str], ...], list[Outcome]] = {}
    for outcome in outcomes:
        key = tuple((k, v) for k, v in outcome.settings.items() if k != SEED)
        groups.setdefault(key, []).append(outcome)
    return [_row(dict(key), members) for key, members in groups.items()]


def _row(settings: dict[str, str], members: Sequence[Outcome]) -> Row:
    done = [member.results for member in members if member.results is not None]
    values: dict[str, Value] = {}
    for measure in MEASURES:
        found = [value for results in done if (value := measure.find(results)) is not None]
        if len(found) == len(done) and found:
            values[measure.name] = found[0] if len(members) == 1 else _mean(found, measure.share)
    return Row(settings, len(done), len(members), values)


def _mean(found: Sequence[Value], share: bool) -> Value:
    """The mean over seeds and mean ± t s/sqrt(n), cut to [0, 1] for shares; one: no interval."""
    values = [one.value for one in found]
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Value(mean)
    half = student_quantile(0.95, len(values) - 1) * statistics.stdev(values)
    half /= math.sqrt(len(values))
    low, high = mean - half, mean + half
    return Value(mean, (max(0.0, low), min(1.0, high)) if share else (low, high))


def table(found: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text; a column that nobody has a number for is left out."""
    keys = list(found[0].settings) if found else []
    measures = [m for m in MEASURES if any(m.name in row.values for row in found)]
    seeds = any(row.wanted > 1 for row in found)
    header = [*keys, *(["seeds"] if seeds else []), *(m.title for m in measures)]
    body = []
    for row in found:
        count = str(row.runs) if row.runs == row.wanted else f"{row.runs} of {row.wanted}"
        cells = [_written(row.values.get(m.name), m.write) for m in measures]
        if not row.runs and cells:
            cells[0] = "not complete"
        body.append([*row.settings.values(), *([count] if seeds else []), *cells])
    return header, body


def _written(value: Value | None, write: str) -> str:
    if value is None:
        return ""
    said = format(value.value, write)
    if value.bounds is None:
        return said
    low, high = (format(bound, write) for bound in value.bounds)
    return f"{said} [{low}, {high}]"


def results_csv(outcomes: Sequence[Outcome]) -> str:
    """A line for each cell, complete or not: axes, then numbers with their bounds."""
    keys = list(outcomes[0].settings) if outcomes else []
    numbers = [f"{m.name}{end}" for m in MEASURES for end in ("", "_low", "_high")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["cell", *keys, "complete", *numbers])
    for outcome in outcomes:
        line: list[Any] = [outcome.name, *(outcome.settings[key] for key in keys)]
        line.append("no" if outcome.results is None else "yes")
        for measure in MEASURES:
            value = None if outcome.results is None else measure.find(outcome.results)
            low, high = (value.bounds if value else None) or ("", "")
            line += ["" if value is None else value.value, low, high]
        writer.writerow(line)
    return out.getvalue()


def plain(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Cells and rows as plain JSON values."""
    return {
        "cells": [
            {
                "name": one.name,
                "settings": dict(one.settings),
                "complete": one.results is not None,
                **{m.name: v.value for m in MEASURES if (v := _of(one, m)) is not None},
            }
            for one in outcomes
        ],
        "settings": [
            {
                "settings": dict(row.settings),
                "runs": row.runs,
                **{
                    name: {"value": v.value, "interval": list(v.bounds) if v.bounds else None}
                    for name, v in row.values.items()
                },
            }
            for row in rows(outcomes)
        ],
    }


def _of(outcome: Outcome, measure: Measure) -> Value | None:
    return None if outcome.results is None else measure.find(outcome.results)


def reward(outcomes: Sequence[Outcome]) -> Measure | None:
    """What the plot shows against KL: the rule, else held-out accuracy; None without KL.

    Both can be compared between settings; a margin cannot, since it grows with the method's β.
    """
    done = [one for one in outcomes if one.results is not None]
    by_name = {measure.name: measure for measure in MEASURES}
    if not done or any(_of(one, by_name["kl"]) is None for one in done):
        return None
    for name in ("rule", "accuracy"):
        if all(_of(one, by_name[name]) is not None for one in done):
            return by_name[name]
    return None


def origin(outcomes: Sequence[Outcome], measure: Measure) -> float | None:
    """The measure before training, which is at KL 0: the mean over the runs that know it."""
    if measure.name != "rule":
        return None
    found = [
        share
        for one in outcomes
        if one.results is not None
        and (share := number(section(last_stage(one.results), "comparison", "before"), "share"))
        is not None
    ]
    return statistics.fmean(found) if found else None
