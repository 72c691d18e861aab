"""The numbers behind the pages of runs: first load, increments, and zooming, at full size.

    python benchmarks/runs_page.py                  # ten runs of 100,000 steps
    python benchmarks/runs_page.py --runs 2 --steps 10000

Writes metrics.jsonl files as a DPO run does, then measures in this process what the server does:
reading a file for the first time, one look when nothing is new, one look when a line is new, the
points of all charts of a run (thinned, as JSON), of a hundredth of its steps, the part that a
listener is sent, and what a run's columns take in memory. Times are medians; the processor's time
is told beside the clock's, as another program may use the machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from palate.machine import calm_threads, taken_memory
from palate.ui.runs.metrics import Metrics
from palate.ui.runs.series import drawn, since

NAMES = ("loss", "margin", "accuracy", "chosen_reward", "rejected_reward", "chosen_logp")
MORE = ("rejected_logp", "abs_h", "lr", "grad_norm")


def write_run(path: Path, steps: int, seed: int) -> None:
    """Lines of the size and the names that `palate.train.loop` writes."""
    values = np.random.default_rng(seed).normal(size=(steps, len(NAMES) + len(MORE)))
    with path.open("w", encoding="utf-8") as file:
        for step, row in enumerate(values.tolist(), start=1):
            file.write(json.dumps(line_of(step, row)) + "\n")


def line_of(step: int, row: list[float]) -> dict[str, Any]:
    """A train line with ten measured values."""
    measured = {n: float(f"{v:.9g}") for n, v in zip((*NAMES, *MORE), row, strict=True)}
    sizes = {"examples": 8, "unique_tokens": 985, "path_tokens": 4221, "seconds": 0.913968}
    return {"kind": "train", "step": step, "epoch": step / 31, **measured, **sizes}


def timed(work: Callable[[], Any], times: int = 1) -> tuple[float, float]:
    """Median seconds by the clock and by the processor."""
    clock, processor = [], []
    for _ in range(times):
        begun = (time.perf_counter(), time.process_time())
        work()
        clock.append(time.perf_counter() - begun[0])
        processor.append(time.process_time() - begun[1])
    return statistics.median(clock), statistics.median(processor)


def main() -> None:
    """Measure, and say so."""
    parser = argparse.ArgumentParser(description="First load, increments and zooming of runs.")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    calm_threads()
    with tempfile.TemporaryDirectory() as home:
        paths = [Path(home) / f"{n}.jsonl" for n in range(given.runs)]
        write_run(paths[0], given.steps, 0)
        for path in paths[1:]:
            shutil.copy(paths[0], path)
        size = paths[0].stat().st_size / 1e6
        tell(f"{given.runs} runs of {given.steps:,} lines, {size:.1f} MB each")
        measure(paths, given.steps)


def measure(paths: list[Path], steps: int) -> None:
    """Each figure on a line: what, by the clock, by the processor."""
    before = taken_memory()
    runs = [Metrics(path) for path in paths]
    firsts = [timed(one.read) for one in runs]
    say("first load of a run", *map(statistics.median, zip(*firsts, strict=True)))
    say("first load of all", *map(sum, zip(*firsts, strict=True)))
    taken = (taken_memory() - before) / len(runs) / 1e6
    tell(f"{'memory of a run':34} {taken:9.1f} MB")
    one = runs[0]
    say("a look, nothing new", *timed(one.read, 200))
    steady: list[tuple[float, float]] = []
    for more in range(1, 51):
        mark = one.mark
        with paths[0].open("a", encoding="utf-8") as file:
            file.write(json.dumps(line_of(steps + more, [0.5] * 10)) + "\n")
        steady.append(timed(lambda mark=mark: (one.read(), since(one, mark))))
    say("a look, one new line", *map(statistics.median, zip(*steady, strict=True)))
    answer = orjson.dumps(drawn(one))
    say("all charts of a run", *timed(lambda: orjson.dumps(drawn(one)), 5))
    tell(f"{'  as JSON':34} {len(answer) / 1e3:9.1f} kB")
    part = steps / 2, steps / 2 + steps / 100
    say("a hundredth of it", *timed(lambda: orjson.dumps(drawn(one, low=part[0], high=part[1])), 5))
    say("all charts of all runs", *timed(lambda: [orjson.dumps(drawn(run)) for run in runs]))


def say(what: str, clock: float, processor: float) -> None:
    """A line of the table."""
    tell(f"{what:34} {1000 * clock:9.2f} ms {1000 * processor:9.2f} ms of processor")


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
