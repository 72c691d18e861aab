"""All that a run's page says, from what its folder holds now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from palate.evaluate import tables
from palate.evaluate.findings import findings
from palate.evaluate.headline import details, headline
from palate.evaluate.runfolder import RunFiles, read_run
from palate.evaluate.runfolder import Table as Facts
from palate.evaluate.shipcard import ship_card
from palate.evaluate.wording import clean, compact, decimal, percent
from palate.ui.runs.charts import CHARTS, charts_of, missing, values
from palate.ui.runs.columns import Table
from palate.ui.runs.metrics import Metrics
from palate.ui.runs.series import latest

EXACT = 4000
"""Lines up to which findings are made of each; of more, of means over neighbours."""
_BUCKETS = 400
_MADE_OF = ("loss", "grad_norm", "chosen_reward", "margin", "up", "up_reward")


def run_files(folder: Path, metrics: Metrics) -> RunFiles:
    """The run as `palate.evaluate` knows it, its metrics as they have been read."""
    with metrics.lock:
        metrics.read()
        lines = lines_of(metrics)
    return read_run(folder, lines)


def lines_of(metrics: Metrics) -> list[Facts]:
    """The lines from which findings are made.

    Of a long run neighbours are put together in 400 equal parts, so that the quarters that
    findings compare have the same means; lines that are not finite stand for themselves.
    """
    train = metrics.table("train")
    found: list[Facts] = _few(train) if train.rows > EXACT else _rows(train, "train")
    for kind in ("heldout", "rollout"):
        found += _rows(metrics.table(kind), kind)
    return found + list(metrics.unbounded)


def _rows(table: Table, kind: str) -> list[Facts]:
    columns = {name: table.column(name).tolist() for name in table.names}
    steps = table.steps.tolist()
    return [
        {"kind": kind, "step": step}
        | {name: column[row] for name, column in columns.items() if np.isfinite(column[row])}
        for row, step in enumerate(steps)
    ]


def _few(table: Table) -> list[Facts]:
    parts = np.array_split(np.arange(table.rows), _BUCKETS)
    columns = {name: table.column(name) for name in _MADE_OF if name in table.names}
    found: list[Facts] = []
    for part in parts:
        means: dict[str, Any] = {"kind": "train", "step": float(table.steps[part[-1]])}
        for name, column in columns.items():
            there = column[part][np.isfinite(column[part])]
            if len(there):
                means[name] = float(there.mean())
        found.append(means)
    return found


def page_of(run: RunFiles, metrics: Metrics) -> dict[str, Any]:
    """The parts of the page that are words and tables."""
    with metrics.lock:
        charts = charts_of(metrics)
        absent = missing(metrics, run.results)
        rows = _latest_rows(metrics)
        odd = metrics.odd
    # What a run writes later is no fault while it is not complete.
    later = () if run.results else (" is missing",)
    unread = [clean(line) for line in run.unread if not line.endswith(later)]
    if odd:
        unread.append(f"metrics.jsonl: {odd} lines cannot be read")
    return {
        "title": clean(headline(run)),
        "details": clean(details(run)),
        "charts": charts,
        "missing": absent,
        "latest": rows,
        "findings": [asdict(one) for one in findings(run)],
        "ship": ship_card(run),
        "measures": tables.measures(run),
        "settings": [[str(k), clean(str(v))] for k, v in tables.settings(run)],
        "config": clean(run.config_text),
        "unread": unread,
    }


def _latest_rows(metrics: Metrics) -> list[dict[str, str]]:
    """The last value of each line of each chart: what the charts say, without a picture."""
    last = latest(metrics)
    rows = []
    for chart in CHARTS:
        for line in chart.lines:
            if line.key not in last:
                continue
            step, value = last[line.key]
            _, column = values(metrics, line.key)
            there = column[np.isfinite(column)]
            rows.append(
                {
                    "key": line.key,
                    "chart": chart.title,
                    "line": line.label,
                    "unit": chart.unit,
                    "first": shown(float(there[0]), share=chart.share),
                    "last": shown(value, share=chart.share),
                    "step": decimal(step, 0),
                    "low": shown(float(there.min()), share=chart.share),
                    "high": shown(float(there.max()), share=chart.share),
                }
            )
    return rows


def shown(value: float, *, share: bool) -> str:
    """A value of a chart."""
    return percent(value, 1) if share else compact(value)


def compared(rows: Sequence[tuple[str, Metrics]]) -> list[dict[str, Any]]:
    """The last values of several runs: a row for each line that one of them has."""
    last = {name: latest(metrics) for name, metrics in rows}
    found = []
    for chart in CHARTS:
        for line in chart.lines:
            mine = {name: one[line.key][1] for name, one in last.items() if line.key in one}
            if not mine:
                continue
            cells = []
            for name, _ in rows:
                value = mine.get(name)
                cells.append("–" if value is None else shown(value, share=chart.share))
            found.append(
                {"chart": chart.title, "line": line.label, "unit": chart.unit, "values": cells}
            )
    return found
