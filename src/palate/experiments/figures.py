"""From runs to figures: means over seeds with their spread, the drawing, and the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Curve = Sequence[tuple[float, float]]
_NOTHING = 1e-12
CLEAR = 2.0  # standard errors that a difference must be beyond


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that points have: its name there, what it is called, and how it is written."""

    name: str
    label: str
    percent: bool = False
    log: bool = False
    digits: int = 2

    def said(self, value: float) -> str:
        """A value in words."""
        if math.isnan(value):
            return "-"
        value = value if abs(value) > _NOTHING else 0.0  # not -0.00
        return f"{value:.{self.digits - 1}%}" if self.percent else f"{value:.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Mean:
    """A point of a case over its seeds; `each` measure has a value of every seed.

    `place` counts the points of a run.
    """

    case: str
    line: str
    place: int
    each: Mapping[str, Sequence[float]]
    seconds: float

    @property
    def seeds(self) -> int:
        """How many runs it is the mean of."""
        return len(next(iter(self.each.values())))

    def value(self, name: str) -> float:
        """The mean of a measure; NaN where the point has none."""
        return statistics.fmean(self.each[name]) if name in self.each else math.nan

    def spread(self, name: str) -> float:
        """The standard deviation from seed to seed; 0 of one, NaN where a run has no value."""
        values = self.each.get(name, ())
        if not all(map(math.isfinite, values)):
            return math.nan
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """With each measure as mean and spread."""
        both = {name: [_plain(self.value(name)), _plain(self.spread(name))] for name in self.each}
        about = {"case": self.case, "line": self.line, "seeds": self.seeds}
        return {**about, "seconds": round(self.seconds, 2), **both}


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def means(rows: Sequence[Mapping[str, Any]]) -> list[Mean]:
    """Every point of every case, in the order of the runs; all seeds have the same points."""
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    found = []
    for name, some in by_case.items():
        seconds = statistics.median(row["seconds"] for row in some)
        for place, points in enumerate(zip(*(row["points"] for row in some), strict=True)):
            each = {one: [point[one] for point in points] for one in points[0]}
            found.append(Mean(name, some[0]["line"], place, each, seconds))
    return found


def apart(one: Mean, other: Mean, name: str) -> float:
    """one − other in standard errors of the difference, seed by seed (Student's t).

    NaN of a single seed; infinite where all seeds differ by the same.
    """
    return errors([a - b for a, b in zip(one.each[name], other.each[name], strict=True)])


def errors(gaps: Sequence[float]) -> float:
    """The mean of differences in its standard errors, as `apart` has it."""
    if len(gaps) < 2:
        return math.nan
    mean, error = statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
    return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0


def runs(found: Sequence[Mean]) -> list[list[Mean]]:
    """The points of each case."""
    by_case: dict[str, list[Mean]] = {}
    for one in found:
        by_case.setdefault(one.case, []).append(one)
    return list(by_case.values())


def last(found: Sequence[Mean]) -> list[Mean]:
    """Where each case ends."""
    return [points[-1] for points in runs(found)]


def table(shown: Sequence[Mean], measures: Sequence[Measure]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the case and its measures, with their spread where there are seeds."""
    header = ["", *(one.label for one in measures)]
    body = []
    for mean in shown:
        cells = [mean.case]
        for one in measures:
            value, spread = mean.value(one.name), mean.spread(one.name)
            more = f" ± {one.said(spread)}" if mean.seeds > 1 and spread > 0 else ""
            cells.append(one.said(value) + more)
        body.append(cells)
    return header, body


def draw(
    found: Sequence[Mean],
    x: Measure,
    ys: Sequence[Measure],
    border: Curve | None = None,
    apart_by: str | None = None,
) -> str:
    """SVG of small panels: each line by itself with the others behind it, for each measure.

    Bars are a standard deviation from seed to seed, both ways; `border` is drawn in each panel. A
    line's points are joined, but for those that a measure sets `apart_by` its values.
    """
    import altair as alt

    from palate.evaluate.charts import alone, finished

    lines = list(dict.fromkeys(one.line for one in found))
    strokes = _strokes(found, apart_by)
    panels = [_panel(strokes, line, x, y, border) for line in lines for y in ys]
    columns = 3 if len(ys) == 1 else len(ys)
    grid = alt.concat(*panels, columns=columns)
    return alone(finished(grid.resolve_scale(x="shared") if columns == 3 else grid))


def _panel(
    strokes: Sequence[Sequence[Mean]], line: str, x: Measure, y: Measure, border: Curve | None
) -> Any:  # a layered chart
    import altair as alt

    from palate.evaluate.charts import QUIET, STRONG

    found = [one for points in strokes for one in points]
    across = alt.X("x:Q", title=x.label, scale=_scale(found, x), axis=_axis(x))
    up = alt.Y("y:Q", title=y.label, scale=_scale(found, y), axis=_axis(y))
    layers = []
    if border is not None:
        edge = alt.Chart({"values": [{"x": left, "y": top} for left, top in border]})
        layers.append(edge.mark_line(color=QUIET, strokeWidth=1.5, clip=True).encode(across, up))
    else:
        layers += [
            alt.Chart({"values": _points(points, x, y)})
            .mark_line(color=QUIET, strokeWidth=0.8, opacity=0.6, clip=True)
            .encode(across, up)
            for points in strokes
            if points[0].line != line
        ]
    for points in strokes:
        if points[0].line != line:
            continue
        base = alt.Chart({"values": _points(points, x, y)})
        layers += [
            base.mark_line(color=STRONG, strokeWidth=1.2, clip=True).encode(across, up),
            base.mark_rule(color=STRONG, clip=True).encode(across, y=alt.Y("low:Q"), y2="high:Q"),
            base.mark_rule(color=STRONG, clip=True).encode(x=alt.X("left:Q"), x2="right:Q", y=up),
            base.mark_point(color=STRONG, filled=True, size=24, opacity=1).encode(across, up),
        ]
    return alt.layer(*layers).properties(width=220, height=130, title=line)


def _strokes(found: Sequence[Mean], apart_by: str | None) -> list[list[Mean]]:
    """What is one stroke: a run's points, or those of a line's cases with a point each."""
    strokes: dict[tuple[str, float], list[Mean]] = {}
    for points in runs(found):
        name = points[0].case if len(points) > 1 else points[0].line
        value = points[0].value(apart_by) if apart_by is not None else 0.0
        strokes.setdefault((name, value), []).extend(points)
    return list(strokes.values())


def _points(points: Sequence[Mean], x: Measure, y: Measure) -> list[dict[str, float]]:
    return [
        {
            "x": one.value(x.name),
            "y": one.value(y.name),
            "left": one.value(x.name) - one.spread(x.name),
            "right": one.value(x.name) + one.spread(x.name),
            "low": one.value(y.name) - one.spread(y.name),
            "high": one.value(y.name) + one.spread(y.name),
        }
        for one in points
        if math.isfinite(one.value(x.name)) and math.isfinite(one.value(y.name))
    ]


def _scale(found: Sequence[Mean], measure: Measure) -> Any:
    import altair as alt

    some = [one for one in found if math.isfinite(one.value(measure.name))]
    low = min(one.value(measure.name) - one.spread(measure.name) for one in some)
    high = max(one.value(measure.name) + one.spread(measure.name) for one in some)
    if measure.log:
        values = [one.value(measure.name) for one in some]
        return alt.Scale(type="log", domain=[min(values), max(values)])
    return alt.Scale(domain=[min(0.0, low), high])


def _axis(measure: Measure) -> Any:
    import altair as alt

    few: dict[str, Any] = {"tickCount": 5, "labelFlush": False}  # panels are small
    return alt.Axis(format="%", **few) if measure.percent else alt.Axis(**few)
