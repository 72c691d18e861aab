"""kill -9 at random moments of a run, which is started again until it is done.

Odd trials draw processor seconds, half of them of the whole command, half of training and what
comes after it. Even trials draw one of the operations that saving makes on the disk, in Python or
in native code; of a write that is cut short, half of the bytes are there. One to three kills a
trial.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path

from benchmarks.faults.attempts import KILL, Attempt, Fault
from benchmarks.faults.command import (
    counted,
    finish,
    lost_steps,
    palate_train,
    scratch,
    told,
    undisturbed,
    write_recipe,
)

FAULT = "kill -9 at a random moment, half of them inside saving"
HOLDS = (
    "continued, the run ends with the weights, optimizer, metrics and answers of an uninterrupted "
    "one, bit for bit; lost is at most one save interval and what was trained while a "
    "checkpoint was being written; nothing half-written is left"
)
TRIALS = 200


def trial(number: int, folder: Path) -> dict[str, object]:
    """One to three kills of the run that the number draws; then it must come to its end.

    A run that ends before its first kill is begun anew elsewhere, with another draw.
    """
    chance = random.Random(number)
    for again in range(9):
        place = folder / str(again)
        place.mkdir()
        saw = _killed(number, chance, place)
        if saw is not None:
            return saw
    raise AssertionError("it was never killed")


def _killed(number: int, chance: random.Random, folder: Path) -> dict[str, object] | None:
    kind = "full" if number // 4 % 2 else "lora"
    whole, forked = undisturbed(kind)
    run = write_recipe(folder, kind)
    places: list[str] = []
    lost: list[int] = []
    for _ in range(chance.randint(1, 3)):
        if number % 2:
            in_all = number % 4 == 1
            most = forked.seconds if in_all else forked.since
            since = None if in_all else run / "metrics.jsonl"
            ended = palate_train(folder, kill_after=chance.uniform(0, 0.95) * most, since=since)
            place = f"after step {told(run)}"
        else:
            ended, place = _kill_in_saving(folder, run, chance.randint(1, _saving(kind)))
        if ended.code == 0:
            break
        assert ended.code == -9, f"exit code {ended.code}: {ended.err[-300:]}"
        lost.append(lost_steps(run))
        places.append(place)
    finish(folder, run, whole)
    if not places:
        return None
    return {"run": kind, "kills": len(places), "at": places, "lost": lost}


def _kill_in_saving(folder: Path, run: Path, nth: int) -> tuple[Attempt, str]:
    log = folder / "operations"
    log.unlink(missing_ok=True)
    fault = Fault((str(run / "checkpoints"),), nth, KILL, log=str(log))
    ended = palate_train(folder, fault=fault)
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return ended, (lines or [""])[-1].replace(f"{run}/", "")


@functools.cache
def _saving(kind: str) -> int:
    """Operations below `checkpoints` in an undisturbed run."""
    return len(counted(scratch() / f"saving-{kind}", ("runs/run/checkpoints",), kind))
