"""Faults and what must hold under them: one module a fault, one function a trial.

A module says `FAULT` and `HOLDS` in words, for the table of docs/reliability.md; how many trials
the figure there asks for, as `TRIALS` or, where there is one for each of something that must first
be counted, as a function `every()`; and has `trial(number, folder)`, which is seeded by the
number (from 1), works below an empty folder, returns what was seen, and raises `AssertionError`
where what must hold does not. `benchmarks/reliability.py` runs them all and keeps a log;
`tests/reliability` runs a few.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

FEW = int(os.environ.get("PALATE_TRIALS", "5"))
"""Trials of each fault in a test."""

Saw = Mapping[str, object]
"""What a trial saw, as JSON."""


def names() -> list[str]:
    """The faults, by the name of their module."""
    here = Path(__file__).parent
    return sorted(
        path.stem for path in here.glob("*.py") if "\ndef trial(" in path.read_text("utf-8")
    )


def find(name: str) -> ModuleType:
    """The fault's module."""
    return importlib.import_module(f"benchmarks.faults.{name}")


def full_count(fault: ModuleType) -> int:
    """How many trials the table's figure asks for."""
    return int(fault.every() if hasattr(fault, "every") else fault.TRIALS)


def chosen(fault: ModuleType, count: int) -> list[int]:
    """`count` trials: the first; or, where each has its own place, spread over all of them."""
    if not hasattr(fault, "every"):
        return list(range(1, count + 1))
    total = full_count(fault)
    if count >= total:
        return list(range(1, total + 1))
    return sorted({1 + round(k * (total - 1) / max(1, count - 1)) for k in range(count)})


def run_few(fault: ModuleType, folder: Path, count: int = FEW) -> Iterator[Saw]:
    """What `count` trials saw; an error names the trial."""
    for number in chosen(fault, count):
        place = folder / str(number)
        place.mkdir()
        try:
            yield fault.trial(number, place)
        except AssertionError as error:
            error.add_note(f"{fault.__name__}, trial {number}")
            raise
