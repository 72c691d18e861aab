"""Drawings of a classifier: ROC, reliability, scores of both classes; SVG in the page's colours.

Only numbers and our own words enter a drawing, never text from data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SIZE, _LEFT, _BELOW = 300, 44, 38  # of a square of shares, and what its labels take
_WIDE, _SIDE, _AXIS = 640, 80, 20  # of the histogram: width, height of one side, the labels
_BARS = 40
_INK, _GRID = "var(--chart-ink, #777)", "var(--chart-grid, #bbb)"
_FIRST, _SECOND = "var(--chart-first, #777)", "var(--chart-second, #777)"


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a square of shares, with the interval of its height if there is one."""

    x: float
    y: float
    bounds: tuple[float, float] | None = None


def draw_roc(points: Sequence[tuple[float, float]], at: Mark) -> str:
    """Recall over the false-positive rate, and the threshold's place on it."""
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    line = (
        f'<polyline points="{path}" fill="none" stroke="{_FIRST}" stroke-width="2" '
        'stroke-linejoin="round"></polyline>'
    )
    return _square([line, *_mark(at, _SECOND, 5)], "safe rows flagged", "unsafe rows flagged")


def draw_reliability(marks: Sequence[Mark]) -> str:
    """The share that is unsafe over the probability that was said; perfect is the diagonal."""
    parts = [part for mark in marks for part in _mark(mark, _FIRST, 4)]
    return _square(parts, "P(unsafe) said", "share that is unsafe")


def draw_scores(above: Sequence[float], below: Sequence[float], line: float) -> str:
    """How many rows have which score: one class up, the other down, and where the flag begins."""
    low = min([*above, *below, line])
    high = max([*above, *below, line])
    low, high = (low - 1, high + 1) if low == high else (low, high)
    edges = np.linspace(low, high, _BARS + 1)
    sides = [np.histogram(side, edges)[0] for side in (above, below)]
    most = max(1, *(int(side.max()) for side in sides))
    step = _WIDE / _BARS
    height = 2 * _SIDE + _AXIS
    parts = [f'<svg viewBox="0 0 {_WIDE} {height}" aria-hidden="true" focusable="false">']
    for number, (side, color) in enumerate(zip(sides, (_SECOND, _FIRST), strict=True)):
        for at, count in enumerate(side.tolist()):
            if not count:
                continue
            tall = max(1.0, (_SIDE - 6) * count / most)
            top = _SIDE - tall if number == 0 else _SIDE + _AXIS
            parts.append(
                f'<rect x="{at * step + 0.5:.1f}" y="{top:.1f}" width="{step - 1:.1f}" '
                f'height="{tall:.1f}" fill="{color}"></rect>'
            )
    where = _WIDE * (line - low) / (high - low)
    parts.append(
        f'<line x1="{where:.1f}" x2="{where:.1f}" y1="0" y2="{height}" stroke="{_INK}" '
        'stroke-dasharray="4 3"></line>'
    )
    parts += _ticks(low, high)
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float) -> list[str]:
    """Round numbers along the axis between the two sides."""
    rough = (high - low) / 8
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    parts = []
    for value in values.tolist():
        x = _WIDE * (value - low) / (high - low)
        if 12 <= x <= _WIDE - 12:
            parts.append(_text(x, _SIDE + 14, f"{value:g}", "middle"))
    return parts


def _square(parts: Sequence[str], across: str, up: str) -> str:
    width, height = _LEFT + _SIZE + 12, _SIZE + _BELOW + 8
    out = [f'<svg viewBox="0 0 {width} {height}" aria-hidden="true" focusable="false">']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _x(share), _y(share)
        out += [
            _line((_x(0), y), (_x(1), y), 'stroke-opacity="0.5"'),
            _line((x, _y(0)), (x, _y(1)), 'stroke-opacity="0.5"'),
            _text(_x(0) - 6, y + 4, f"{share:.0%}", "end"),
            _text(x, _y(0) + 15, f"{share:.0%}", "middle"),
        ]
    out.append(_line((_x(0), _y(0)), (_x(1), _y(1)), 'stroke-dasharray="4 3"'))
    out += parts
    out.append(_text(_x(0.5), _y(0) + 32, across, "middle"))
    out.append(
        f'<text transform="translate(10 {_y(0.5):.1f}) rotate(-90)" font-size="11" '
        f'text-anchor="middle" fill="{_INK}">{up}</text>'
    )
    return "".join([*out, "</svg>"])


def _mark(mark: Mark, color: str, radius: int) -> list[str]:
    x, y = _x(mark.x), _y(mark.y)
    parts = []
    if mark.bounds is not None:
        low, high = (_y(bound) for bound in mark.bounds)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" '
            f'stroke="{color}" stroke-width="1.5"></line>'
        )
    return [*parts, f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"></circle>']


def _line(begin: tuple[float, float], end: tuple[float, float], look: str) -> str:
    return (
        f'<line x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{_GRID}" {look}></line>'
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" '
        f'fill="{_INK}">{words}</text>'
    )


def _x(share: float) -> float:
    return _LEFT + _SIZE * share


def _y(share: float) -> float:
    return 8 + _SIZE * (1 - share)
