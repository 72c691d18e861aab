"""sweep.html and reward-kl.svg: the table of a sweep, and its reward against KL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palate.durable import write_text
from palate.evaluate.charts import Dot, alone, draw_drift
from palate.evaluate.pages import template
from palate.evaluate.sweeps import Measure, Outcome, Row, origin, reward, rows, table

PAGE, PLOT = "sweep.html", "reward-kl.svg"


def write_page(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write `sweep.html`, and `reward-kl.svg` where KL was measured; returns the page's path."""
    found = rows(outcomes)
    measure = reward(outcomes)
    drawing = draw(outcomes, found, measure) if measure else None
    if drawing:
        write_text(folder / PLOT, alone(drawing))
    else:
        (folder / PLOT).unlink(missing_ok=True)
    header, body = table(found)
    page = template("sweep.html.j2").render(
        name=folder.name,
        header=header,
        body=body,
        keys=len(found[0].settings) if found else 0,
        drawing=drawing,
        measure=measure.title if measure else "",
        complete=sum(one.results is not None for one in outcomes),
        cells=[(one.name, one.results is not None) for one in outcomes],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def draw(outcomes: Sequence[Outcome], found: Sequence[Row], measure: Measure) -> str:
    """SVG: a small dot for each run, a large one with its name for each setting."""
    single = rows([Outcome(one.name, {"cell": one.name}, one.results) for one in outcomes])
    runs = [_dot(row, measure) for row in single if row.runs]
    means = [replace(_dot(row, measure), name=row.label) for row in found if row.runs]
    if len(runs) == len(means):  # one and the same
        runs = []
    start = origin(outcomes, measure)
    if start is not None:
        runs.append(Dot(0.0, start, "before"))
    return draw_drift(runs, means, measure.title)


def _dot(row: Row, measure: Measure) -> Dot:
    kl, height = row.values["kl"], row.values[measure.name]
    return Dot(kl.value, height.value, bounds=height.bounds)
