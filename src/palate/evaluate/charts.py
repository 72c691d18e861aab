"""The report's charts: inline SVG whose colours are CSS variables.

Vega-Lite draws; then placeholder colours become `var(--chart-...)`, so that one drawing
follows the page into dark mode and onto paper. Only numbers, settings and our own words enter
a chart, never a model's text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from palate.evaluate.runfolder import Table, number

# What Vega is told -> what the page gets. A colour that Vega would never choose itself.
_INK, _GRID = "#010201", "#010202"
_COLORS = {"first": "#010203", "second": "#010204", "quiet": "#010205"}
_VARIABLES = {
    _INK: "var(--chart-ink, #777)",
    _GRID: "var(--chart-grid, #bbb)",
    **{code: f"var(--chart-{name}, #777)" for name, code in _COLORS.items()},
}
_ON_PAPER = {
    "first": "#0b6796",
    "second": "#b8560b",
    "quiet": "#87817a",
    "ink": "#6a655c",
    "grid": "#d8d2c6",
}
STRONG, QUIET = _COLORS["first"], _COLORS["quiet"]
"""For charts that are made elsewhere and `finished` here."""
_POINTS = 400  # of one line; a longer run is thinned

Color = Literal["first", "second", "quiet"]
Style = Literal["thin", "bold", "dashed", "dots"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: its name in the legend and its (x, y) points."""

    name: str
    points: tuple[tuple[float, float], ...]
    color: Color
    style: Style


@dataclass(frozen=True, slots=True)
class Figure:
    """A finished chart: title, SVG text, legend entries, and a caption in words."""

    title: str
    svg: str
    legend: tuple[Series, ...]
    caption: str = ""
    small: bool = False


def series(
    lines: Sequence[Table], key: str, name: str, color: Color, style: Style
) -> tuple[Series, ...]:
    """The series of `key` over the steps; empty if no line has the number.

    A bold series of 20 steps or more is the mean over the last twelfth of the run so far
    drawn, with each step as a thin line behind it: single steps of eight pairs jump too much.
    """
    points = [
        (step, value)
        for line in lines
        if (step := number(line, "step")) is not None and (value := number(line, key)) is not None
    ]
    if not points:
        return ()
    window = len(points) // 12 + 1 if style == "bold" and len(points) >= 20 else 1
    if window == 1:
        return (Series(name, _thinned(points), color, style),)
    smooth = [
        (step, sum(y for _, y in points[max(0, i - window + 1) : i + 1]) / min(i + 1, window))
        for i, (step, _) in enumerate(points)
    ]
    return (
        Series(name, _thinned(points), color, "thin"),
        Series(f"{name} (mean of {window} steps)", _thinned(smooth), color, "bold"),
    )


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a scatter: where it is, its name, and the interval of its height."""

    x: float
    y: float
    name: str = ""
    bounds: tuple[float, float] | None = None


def training_figures(
    train: Sequence[Table], heldout: Sequence[Table], expected: float | None
) -> list[Figure]:
    """Loss, margin, accuracy, rewards, learning rate and gradient norm over the steps.

    A figure without any number is left out: a demonstration run has no margins.
    `expected` is the loss before the first step, drawn as a line across.
    """

    def both(key: str) -> tuple[Series, ...]:
        return series(train, key, "training", "first", "bold") + series(
            heldout, key, "held out", "second", "dots"
        )

    rewards = (
        series(train, "chosen_reward", "chosen", "first", "bold")
        + series(train, "rejected_reward", "rejected", "second", "bold")
        + series(heldout, "chosen_reward", "chosen, held out", "first", "dots")
        + series(heldout, "rejected_reward", "rejected, held out", "second", "dots")
    )
    rate = series(train, "lr", "learning rate", "first", "dashed")
    norm = series(train, "grad_norm", "gradient norm", "first", "dashed")
    said = _captions(train)
    start = f"Dashed across: {expected:.4f}, the loss before the first step." if expected else ""
    wanted: tuple[tuple[str, tuple[Series, ...], str, dict[str, Any]], ...] = (
        ("Loss", both("loss"), start, {"across": expected}),
        ("Margin", both("margin"), said.margin, {}),
        ("Accuracy", both("accuracy"), said.accuracy, {"across": 0.5, "shares": True}),
        ("Rewards, chosen and rejected apart", rewards, said.rewards, {"across": 0.0}),
        ("Learning rate", rate, "", {"small": True}),
        ("Gradient norm", norm, "Before clipping.", {"small": True}),
    )
    return [
        Figure(title, draw(lines, **how), _legend(lines), caption, "small" in how)
        for title, lines, caption, how in wanted
        if lines
    ]


def rollout_figures(rollouts: Sequence[Table], heldout: Sequence[Table]) -> list[Figure]:
    """Reward, KL and length of what the policy sampled on the way; none of other runs."""
    if not rollouts:
        return []

    def both(key: str) -> tuple[Series, ...]:
        return series(rollouts, key, "sampled", "first", "bold") + series(
            heldout, key, "held out", "second", "dots"
        )

    kl = series(rollouts, "kl", "KL", "first", "bold")
    flat = series(rollouts, "flat", "flat groups", "first", "dashed")
    wanted: tuple[tuple[str, tuple[Series, ...], str, dict[str, Any]], ...] = (
        ("Reward", both("reward"), "What the judge gave the answers of each rollout.", {}),
        ("KL from the reference", kl, "Nats an answer, on the policy's own text.", {}),
        ("Length", both("length"), "Tokens of an answer.", {"small": True}),
        ("Groups without spread", flat, "They teach nothing.", {"small": True, "shares": True}),
    )
    return [
        Figure(title, draw(lines, **how), _legend(lines), caption, "small" in how)
        for title, lines, caption, how in wanted
        if lines
    ]


@dataclass(frozen=True, slots=True)
class _Captions:
    margin: str
    accuracy: str
    rewards: str


def _captions(train: Sequence[Table]) -> _Captions:
    """What margins, accuracies and rewards are, by the metrics that a method reports."""
    keys = set(train[-1]) if train else set()
    if "chosen_reward" not in keys:  # single answers, with a thumb
        return _Captions(
            "Reward beyond the drift, on the side that the thumb points to.",
            "Share of answers whose reward is on their thumb's side. Dashed across: chance.",
            "",
        )
    if "chosen_logp" in keys and "abs_h" in keys:
        rewards = (
            "How much likelier than at the start each kind of answer became, scaled by \u03b2."
        )
    else:
        rewards = "What the method compares the two answers by."
    return _Captions(
        "Reward of the chosen answer minus the rejected one's.",
        "Share of pairs whose chosen answer has the higher reward. Dashed across: chance.",
        rewards,
    )


def _legend(lines: Sequence[Series]) -> tuple[Series, ...]:
    """What needs a name: not a single line, and not the thin line behind a bold one."""
    return tuple(line for line in lines if line.style != "thin") if len(lines) > 1 else ()


def draw(
    lines: Sequence[Series],
    across: float | None = None,
    shares: bool = False,
    small: bool = False,
) -> str:
    """SVG of lines over steps; `across` draws a dashed line at that height."""
    scale = alt.Scale(domain=[0, 1]) if shares else alt.Scale(zero=False, nice=True)
    axis = alt.Axis(format=".0%" if shares else "~g", tickCount=3 if small else 5)
    y = alt.Y("y:Q", title=None, scale=scale, axis=axis)
    steps = alt.Axis(format="d", tickMinStep=1, tickCount=6, grid=False)
    x = alt.X("x:Q", title="step", axis=steps, scale=alt.Scale(zero=False, nice=False))
    layers: list[Any] = []
    if across is not None:
        base = alt.Chart({"values": [{"y": across}]})
        layers.append(base.mark_rule(strokeDash=[3, 4], color=_COLORS["quiet"]).encode(y=y))
    for one in lines:
        base = alt.Chart({"values": [{"x": a, "y": b} for a, b in one.points]})
        color = _COLORS[one.color]
        weight = {"thin": 0.8, "bold": 2.2, "dashed": 1.6, "dots": 1.2}[one.style]
        opacity = 0.45 if one.style == "thin" else 1.0
        dash = [5, 3] if one.style == "dots" else [1, 0]
        mark = base.mark_line(
            color=color, strokeWidth=weight, opacity=opacity, strokeDash=dash, strokeJoin="round"
        )
        layers.append(mark.encode(x=x, y=y))
        if one.style == "dots" or len(one.points) == 1:
            layers.append(base.mark_point(color=color, filled=True, size=34).encode(x=x, y=y))
    return _svg(alt.layer(*layers), 110 if small else 210)


def draw_shares(
    before: float, before_in: tuple[float, float], after: float, after_in: tuple[float, float]
) -> str:
    """SVG of two shares with their intervals, one under the other, on a scale of 0 to 100 %."""
    rows = [
        {"stage": "before", "share": before, "low": before_in[0], "high": before_in[1]},
        {"stage": "after", "share": after, "low": after_in[0], "high": after_in[1]},
    ]
    base = alt.Chart({"values": rows}).encode(
        y=alt.Y("stage:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False))
    )
    x = alt.X(
        "share:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    color = alt.Color(
        "stage:N",
        scale=alt.Scale(domain=["before", "after"], range=[_COLORS["quiet"], _COLORS["first"]]),
        legend=None,
    )
    bar = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=None), x2="high:Q", color=color
    )
    ends = [
        base.mark_tick(thickness=2, size=10).encode(x=alt.X(f"{end}:Q", title=None), color=color)
        for end in ("low", "high")
    ]
    dot = base.mark_point(filled=True, size=120, opacity=1).encode(x=x, color=color)
    return _svg(alt.layer(bar, *ends, dot), 110, width=440, font=13)


def draw_drift(runs: Sequence[Dot], means: Sequence[Dot], title: str) -> str:
    """SVG of shares over KL: single runs as small dots, means large, named, with intervals."""
    x = alt.X("x:Q", title="KL, nats an answer", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y(
        "y:Q",
        title=title,
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    layers: list[Any] = []
    small = alt.Chart({"values": [{"x": dot.x, "y": dot.y, "name": dot.name} for dot in runs]})
    layers.append(small.mark_point(color=_COLORS["quiet"], filled=True, size=22).encode(x=x, y=y))
    spans = [
        {"x": dot.x, "y": dot.bounds[0], "high": dot.bounds[1]}
        for dot in means
        if dot.bounds is not None
    ]
    span = alt.Chart({"values": spans}).mark_rule(color=_COLORS["first"], strokeWidth=1.2)
    layers.append(span.encode(x=x, y=y, y2="high:Q"))
    large = alt.Chart({"values": [{"x": dot.x, "y": dot.y, "name": dot.name} for dot in means]})
    layers.append(large.mark_point(color=_COLORS["first"], filled=True, size=80).encode(x=x, y=y))
    for base in (large, small):
        text = base.mark_text(align="left", dx=8, dy=-8, color=_INK, fontSize=11)
        layers.append(text.encode(x=x, y=y, text="name:N"))
    return _svg(alt.layer(*layers), 340, width=640, font=12)


def alone(svg: str) -> str:
    """A drawing for the page as a file of its own: a namespace, and colours for white paper."""
    for name, color in _ON_PAPER.items():
        svg = re.sub(rf"var\(--chart-{name}, [^)]*\)", color, svg)
    start = (
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" style="background:#fff"'
    )
    return svg.replace("<svg", start, 1) + "\n"


def _svg(chart: Any, height: int, width: int = 380, font: int = 11) -> str:
    chart = chart.properties(
        width=width,
        height=height,
        autosize={"type": "fit", "contains": "padding"},
    )
    return finished(chart, font)


def finished(chart: Any, font: int = 11) -> str:
    """A chart as SVG for a page, with our axes and the page's colours."""
    look = {"labelColor": _INK, "titleColor": _INK, "tickColor": _GRID, "gridColor": _GRID}
    chart = (
        chart.properties(background="transparent")
        .configure_view(stroke=None)
        .configure_title(color=_INK, fontSize=font + 1, fontWeight="normal")
        .configure_axis(
            **look,
            domain=False,
            gridOpacity=0.5,
            labelFontSize=font,
            titleFontSize=font,
            titleFontWeight="normal",
        )
    )
    out = io.StringIO()
    chart.save(out, format="svg")
    return _inline(out.getvalue())


def _inline(svg: str) -> str:
    """Fit for an HTML page: no namespaces, no fixed size, no shared ids, the page's colours."""
    svg = re.sub(r'\s(xmlns(:xlink)?|version|class|font-family)="[^"]*"', "", svg)
    svg = re.sub(r'<svg width="[\d.]+" height="[\d.]+"', "<svg", svg, count=1)
    svg = re.sub(r'\s(role|aria-[a-z]+)="[^"]*"', "", svg)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    stride = -(-len(points) // _POINTS)
    kept = list(points[::stride])
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return tuple(kept)
