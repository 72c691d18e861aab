"""The runs of an experiment: each case with each seed, in a file that goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.resumable import RowLog

Point = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to run, with every seed.

    `line` is what it is drawn as, `key` its name among the runs. It is given what all runs have in
    common and a seed, and gives points, each a measure by its name: one, or several of one run.
    """

    line: str
    key: str
    run: Callable[[Any, int], Sequence[Point]]


def run_all(
    ground: Any,
    scale: Any,  # a dataclass
    path: Path,
    cases: Sequence[Case],
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Every case with every seed, seed by seed; what the file holds already is not run again.

    A row has the case's `key` and `line`, the `seed`, the `points`, and the `seconds` it took.
    Raises `ValueError` for a file of another scale or other cases.
    """
    order = [(seed, case) for seed in seeds for case in cases]
    what = {"scale": asdict(scale), "cases": [one.key for one in cases]}
    with RowLog(path, what, [1] * len(order)) as log:
        for seed, case in order[len(log.rows) :]:
            began = time.perf_counter()
            points = [dict(point) for point in case.run(ground, seed)]
            seconds = round(time.perf_counter() - began, 2)
            row = {"case": case.key, "line": case.line, "seed": seed, "points": points}
            log.append([{**row, "seconds": seconds}])
            say(f"{case.key}, seed {seed}: {_told(points[-1])}, {seconds:.0f} s")
        return list(log.rows)


def _told(point: Point) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in point.items())
