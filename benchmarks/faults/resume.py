"""A run of twenty steps that is asked to stop after step N and continued, in six kinds.

The last trial stops and continues after every step of one run.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults.tiny_run import (
    GRPO,
    after,
    assert_same_run,
    cache_in,
    no_page,
    prepare,
    recipe,
)

FAULT = "stopped after step N of 20, and continued"
HOLDS = (
    "weights, optimizer, method state, answers and metrics are those of the uninterrupted run, bit "
    "for bit: LoRA, full, a moving reference (both), accumulation over micro-batches, grpo"
)
STEPS = 20
FULL = {"adapter": {"kind": "full"}}
MOVING = {"method": {"name": "tr-dpo", "tau": 3}}
CASES: dict[str, dict[str, Any]] = {
    "dpo, LoRA": {},
    "dpo, full": FULL,
    "moving reference, LoRA": MOVING,
    "moving reference, full": {**MOVING, **FULL},
    "accumulation": {"train": {"batch_size": 8, "tokens_per_microbatch": 60}},
    "grpo, LoRA": GRPO,
}


def every() -> int:
    """One for each step, and one that stops after all of them."""
    return STEPS + 1


def trial(number: int, folder: Path, cases: Sequence[str] = tuple(CASES)) -> dict[str, object]:
    """Stop after step `number` of each kind of run; the last trial stops after each step."""
    stops = [number] if number <= STEPS else list(range(1, STEPS + 1))
    for case in cases:
        found = _run(case, folder / case, stops)
        assert_same_run(found, _whole(case))
    return {"kinds": len(cases), "stops": len(stops)}


def _run(case: str, folder: Path, stops: list[int]) -> Path:
    """The run's folder, after it was stopped and continued at each of the steps."""
    from palate.run import train
    from palate.train.task import Interrupted

    settings = CASES[case]
    more = {**settings, "train": {**settings.get("train", {}), "max_steps": STEPS, "save_every": 7}}
    config = recipe(_desk(), folder, **more)
    with cache_in(_desk().parent / "cache"), no_page():
        for step in stops:
            stopped = None
            try:
                train(config, should_stop=after(config.folder, step))
            except Interrupted as error:
                stopped = error.step
            assert stopped == step, f"{case}: it was to stop after {step}, not after {stopped}"
        train(config)
    return config.folder


@functools.cache
def _desk() -> Path:
    return prepare(Path(_scratch().name) / "desk")


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="palate-resume-whole-")


@functools.cache
def _whole(case: str) -> Path:
    return _run(case, Path(_scratch().name) / case, [])
