"""Drawings of counts: SVG of bars whose colours are the page's CSS variables.

Only numbers and our own words enter a drawing, never text from data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _SIDE, _AXIS = 380, 62, 18  # of the histogram: width, height of one side, the labels
_BINS_A_DOUBLING = 2
_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_LABELS_APART = 34  # the least room of a tick's label


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two halves of a histogram: its name, and the lengths."""

    name: str
    lengths: Sequence[int]


def bar(count: float, most: float) -> str:
    """A bar of the whole width for `most`; it has no text of its own."""
    width = 100 * count / most if most else 0
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false"><rect width="{width:.2f}" height="10" fill="var(--chart-first, #777)">'
        "</rect></svg>"
    )


def histogram(above: Side, below: Side | None = None) -> str:
    """Lengths on a logarithmic axis, one side up and the other down, both on one scale."""
    sides = [above, *([below] if below else [])]
    highest = max((max(side.lengths, default=1) for side in sides), default=1)
    bins = _bin(max(1, highest)) + 1
    counts = [_counted(side.lengths, bins) for side in sides]
    most = max(1, *(max(found) for found in counts))
    step = _WIDTH / bins
    height = _SIDE * len(sides) + _AXIS
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" aria-hidden="true" focusable="false">']
    for number, found in enumerate(counts):
        color = ("first", "second")[number]
        for at, count in enumerate(found):
            if not count:
                continue
            tall = max(1.0, (_SIDE - 4) * count / most)
            top = _SIDE - tall if number == 0 else _SIDE + _AXIS
            parts.append(
                f'<rect x="{at * step + 0.5:.1f}" y="{top:.1f}" width="{step - 1:.1f}" '
                f'height="{tall:.1f}" fill="var(--chart-{color}, #777)"></rect>'
            )
    parts += _axis(bins, step)
    return "".join([*parts, "</svg>"])


def _axis(bins: int, step: float) -> list[str]:
    grid = "var(--chart-grid, #bbb)"
    parts = [f'<line x1="0" x2="{_WIDTH}" y1="{_SIDE}" y2="{_SIDE}" stroke="{grid}"></line>']
    last = -float(_LABELS_APART)
    for tick in _TICKS:
        x = math.log2(tick) * _BINS_A_DOUBLING * step
        if _bin(tick) >= bins or x - last < _LABELS_APART or x > _WIDTH - 12:
            continue
        last = x
        anchor = "start" if x < 12 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{_SIDE + 13}" font-size="11" text-anchor="{anchor}" '
            f'fill="var(--chart-ink, #777)">{tick:,}</text>'
        )
    return parts


def _bin(length: int) -> int:
    """Two bins for each doubling; 0 and 1 share the first."""
    return math.floor(math.log2(max(1, length)) * _BINS_A_DOUBLING)


def _counted(lengths: Sequence[int], bins: int) -> list[int]:
    counts = [0] * bins
    for length in lengths:
        counts[_bin(length)] += 1
    return counts
