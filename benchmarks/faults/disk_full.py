"""A disk that is full, or read-only, from the n-th thing on that a run does to it.

First, everything is counted that an undisturbed `palate train` creates, writes, flushes and renames
below its folder and its cache. Each of these fails in a trial of its own, for want of space,
and whatever needs room after it fails too; of the first write, half still fits. The second half of
the trials does the same with a disk that the system has made read-only, where removing fails too.
"""

from __future__ import annotations

import errno
import functools
import os
from pathlib import Path
from typing import Any

from benchmarks.faults.attempts import ALL, FAIL, FULL_DISK, Attempt, Fault
from benchmarks.faults.command import (
    counted,
    finish,
    lost_steps,
    palate_train,
    scratch,
    undisturbed,
    write_recipe,
)
from benchmarks.faults.tiny_run import assert_same_run

FAULT = "the disk is full, or read-only, from the n-th write on"
HOLDS = (
    "one clear line and exit code 2; every checkpoint that was there is whole, and lost is "
    "what a kill costs; with room again, the run ends as it would have, bit for bit"
)
BELOW = ("runs", "cache")
HOW: dict[str, dict[str, Any]] = {
    "full": {"classes": FULL_DISK, "error": errno.ENOSPC},
    "read-only": {"classes": ALL, "error": errno.EROFS},
}


def every() -> int:
    """One for each operation that fails on a full disk, and for each on a read-only one."""
    return sum(len(_operations(how)) for how in HOW)


def trial(number: int, folder: Path) -> dict[str, object]:
    """The `number`-th operation fails, of a full disk's and then a read-only one's."""
    how, nth = "full", number
    if nth > len(_operations("full")):
        how, nth = "read-only", nth - len(_operations("full"))
    whole, _ = undisturbed("lora")
    run, log = write_recipe(folder), folder / "operations"
    below = tuple(str(folder / name) for name in BELOW)
    ended = palate_train(folder, fault=Fault(below, nth, FAIL, log=str(log), **HOW[how]))
    done = log.read_text(encoding="utf-8").replace(f"{folder}/", "").splitlines()
    failed = done[nth - 1].split(" ", 1)[1] if len(done) >= nth else None
    saw = {"disk": how, "failed": failed}
    if ended.code == 0:  # nothing that the run needs: as where a folder's entries cannot be flushed
        assert_same_run(run, whole)
        return {**saw, "said": None}
    said = _one_line(ended, HOW[how]["error"])
    lost = lost_steps(run)
    finish(folder, run, whole)
    return {**saw, "said": said.replace(f"{folder}/", ""), "lost": lost}


def _one_line(ended: Attempt, number: int) -> str:
    """What it said: one line, the last, which names what the system said."""
    assert ended.code == 2, f"exit code {ended.code}: {ended.err[-600:]}"
    assert "Traceback" not in ended.err, ended.err[-600:]
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, f"{len(errors)} lines of error: {ended.err[-600:]}"
    assert ended.err.splitlines()[-1] == errors[0], f"not the last line: {ended.err[-600:]}"
    assert os.strerror(number) in errors[0], errors[0]
    return errors[0]


@functools.cache
def _operations(how: str) -> list[str]:
    return counted(scratch() / how, BELOW, **HOW[how])
