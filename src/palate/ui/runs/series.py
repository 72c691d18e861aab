"""The numbers of charts, as few as a screen can show, and what is new since a mark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from palate.ui.runs.charts import charts_of, column, values
from palate.ui.runs.columns import Numbers, Table
from palate.ui.runs.metrics import KINDS, Mark, Metrics
from palate.ui.runs.thinning import thinned

POINTS = 800
"""Points of a line where nobody says how many."""
MOST_POINTS = 5000


def drawn(
    metrics: Metrics,
    *,
    keys: Sequence[str] | None = None,
    points: int = POINTS,
    low: float = -math.inf,
    high: float = math.inf,
) -> dict[str, Any]:
    """Charts, thinned lines as `{key: [steps, values]}`, and the mark up to which they reach.

    `keys` are `KIND.NAME`; without, all that the charts show. Steps from `low` to `high`.
    """
    with metrics.lock:
        mark = metrics.read()
        charts = charts_of(metrics)
        wanted = _keys(charts) if keys is None else keys
        lines = {}
        for key in wanted:
            x, y = thinned(*values(metrics, key), min(points, MOST_POINTS), low, high)
            if len(x):
                lines[key] = [_steps(x), _listed(y)]
        return {"mark": mark.text(), "charts": charts, "lines": lines, "latest": latest(metrics)}


def latest(metrics: Metrics) -> dict[str, tuple[float, float]]:
    """(step, value) of each line's last value that is a number."""
    found: dict[str, tuple[float, float]] = {}
    for key in _keys(charts_of(metrics)):
        x, y = values(metrics, key)
        there = np.flatnonzero(np.isfinite(y))
        if len(there):
            last = int(there[-1])
            [step], [value] = _steps(x[last : last + 1]), _listed(y[last : last + 1])
            found[key] = (step, value)
    return found


def since(metrics: Metrics, mark: Mark) -> dict[str, list[Any]] | None:
    """The points after `mark` by key; None where what came before has changed: draw anew."""
    now = metrics.mark
    if now.age != mark.age or now.changed != mark.changed:
        return None
    if any(new < old for new, old in zip(now.rows, mark.rows, strict=True)):
        return None
    found: dict[str, list[Any]] = {}
    for kind, first in zip(KINDS, mark.rows, strict=True):
        table = metrics.table(kind)
        if table.rows > first:
            found |= _new(kind, table, first)
    return found


def _new(kind: str, table: Table, first: int) -> dict[str, list[Any]]:
    found = {}
    derived = ("tokens_per_second", "computed_per_second", "memory_gib") if kind == "train" else ()
    for name in (*table.names, *derived):
        y = column(table, name)[first:]
        there = np.isfinite(y)
        if there.any():
            found[f"{kind}.{name}"] = [_steps(table.steps[first:][there]), _listed(y[there])]
    return found


def _keys(charts: Iterable[dict[str, Any]]) -> list[str]:
    return [line["key"] for chart in charts for line in chart["lines"]]


def _steps(column: Numbers) -> list[int | float]:
    return [int(step) if step.is_integer() else step for step in column.tolist()]


def _listed(column: Numbers) -> list[float]:
    """Values for JSON, six significant digits."""
    return [float(f"{value:.6g}") for value in column.tolist()]
