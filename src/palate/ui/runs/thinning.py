"""A line of a hundred thousand points as the few that a screen can show, extremes kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.ui.runs.columns import Numbers


def thinned(
    x: Numbers, y: Numbers, points: int, low: float = -np.inf, high: float = np.inf
) -> tuple[Numbers, Numbers]:
    """The points with `low` <= x <= `high`, of which at most about `points` are kept.

    `x` rises, [n]; y [n] may hold NaN (not said by that line), which is left out; infinite values
    are left out too, as no axis reaches them. The range is cut into equal buckets of points; of
    each the smallest and the largest y stay, in their order, and so do the first and the last
    point. So no peak is lost, and asking again for a part of the range gives finer points. One
    neighbour on each side of the range is kept, so that a line runs to the edge.
    """
    there = np.isfinite(y)
    x, y = x[there], y[there]
    first = max(0, int(np.searchsorted(x, low, "left")) - 1)
    last = int(np.searchsorted(x, high, "right")) + 1
    x, y = x[first:last], y[first:last]
    buckets = max(1, (points - 2) // 2)
    if len(x) <= 2 * buckets + 2:
        return x, y
    keep = np.unique(np.concatenate([[0], 1 + _extremes(y[1:-1], buckets), [len(x) - 1]]))
    return x[keep], y[keep]


def _extremes(y: Numbers, buckets: int) -> npt.NDArray[np.int64]:
    """Places of the smallest and of the largest value of each bucket of neighbours."""
    size = -(-len(y) // buckets)
    rows = np.pad(y, (0, buckets * size - len(y)), mode="edge").reshape(buckets, size)
    begin = size * np.arange(buckets)
    found: npt.NDArray[np.int64] = np.concatenate(
        [begin + rows.argmin(axis=1), begin + rows.argmax(axis=1)]
    )
    found[found >= len(y)] = len(y) - 1
    return found
