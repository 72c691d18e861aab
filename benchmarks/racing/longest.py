"""W6: the longest pair that trains within a given memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .course import Course
from .duel import Failed, Processes, Say
from .sample import Entry
from .workloads import generated

ANSWER, FIRST, LARGEST, STEP = 128, 512, 2**17, 128


def race_longest(
    processes: Processes, renderer: Any, base: Entry, limit: int, say: Say
) -> dict[str, Any]:
    """The longest sequence (prompt and answer) of a pair that one whole step can be made on.

    Both answers have 128 tokens. On a CPU each try is a process whose private memory is
    bounded to `limit` bytes (RLIMIT_DATA), so that the allocator fails instead of the
    machine; on CUDA torch's allocator is bounded.
    """
    other = replace(base, side="trl", batch=1)
    entries = {
        "Palate": base,
        "TRL as it comes": other,
        "TRL tuned": replace(other, tuned=True, precompute=True),
    }
    say(
        f"W6, longest sequence of a pair in {limit / 2**30:g} GiB, {base.adapter}, {base.precision}"
    )
    found = {}
    for name, entry in entries.items():

        def fits(length: int, entry: Entry = entry) -> bool:
            return _fits(processes, renderer, replace(entry, limit=limit), length, say)

        found[name] = longest(fits)
        say(f"  {name}: {found[name] or 'less than 512'} tokens")
    return {"workload": "W6", "limit_bytes": limit, "longest": found, "adapter": base.adapter,
            "precision": base.precision}  # fmt: skip


def longest(fits: Callable[[int], bool]) -> int:
    """The largest multiple of 128 that fits, up to 131,072; 0 if 512 does not.

    Doubles until it fails, then halves the gap down to an eighth of the length.
    """
    good, bad = 0, 0
    length = FIRST
    while length <= LARGEST and not bad:
        if fits(length):
            good, length = length, 2 * length
        else:
            bad = length
    while good and bad and bad - good > max(STEP, good // 8):
        middle = (good + bad) // 2 // STEP * STEP
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _fits(processes: Processes, renderer: Any, entry: Entry, length: int, say: Say) -> bool:
    pairs = generated(renderer, [(length - ANSWER, ANSWER, ANSWER)], 0)
    course = Course("W6", tuple(pairs), ((0,),), even=True)
    path = processes.folder / "longest.json"
    course.write(path)
    try:
        processes.run(replace(entry, course=str(path), warm_up=0))
    except Failed as error:
        say(f"  {entry.side} does not fit {length} tokens: {str(error).splitlines()[-1]}")
        return False
    return True
