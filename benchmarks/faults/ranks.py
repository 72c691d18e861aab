"""One of two ranks dies, hangs or is slow in the middle of a run, under ddp and under fsdp.

The trials take turns: one in three dies (kill -9 at any moment of a step), one hangs (stopped,
asleep or busy without end), one is slow, by less than the time limit or by more. The task is a tiny
model with AdamW and a method that keeps a state, six steps long, with a checkpoint after each.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

from tests.train.starting import Starter, said

from palate.durable import verify_folder

FAULT = "a rank dies, hangs, or is slow"
HOLDS = (
    "all ranks end by themselves, with exit code 2 and one line, or wait for one that is slow by "
    "less than the time limit; every checkpoint is whole; continued, the run ends with the same "
    "weights, optimizer and metrics, bit for bit"
)
TRIALS = 60
RANKS, STEPS = 2, 6
# Seconds; a rank that gets no processor for so long counts as lost, so a busy machine wants more.
TIMEOUT = float(os.environ.get("PALATE_RANK_TIMEOUT", "8"))
# From the start, on a machine however busy: who has not ended then never will. How long after the
# harm the last rank ended is told, and not judged.
AT_MOST = 300.0
TASK: dict[str, Any] = {"kind": "full", "method": "moving", "save_every": 1, "log_every": 3}


def trial(number: int, folder: Path) -> dict[str, object]:
    """Harm one rank at a random moment, continue, and compare with a run that nothing befell."""
    draw = random.Random(number)
    parallel = ("ddp", "fsdp")[(number - 1) // 3 % 2]
    harm = _harm(("dies", "hangs", "is slow")[(number - 1) % 3], draw)
    in_time = harm["how"] == "sleep" and harm.get("seconds", TIMEOUT) < TIMEOUT
    limits = {"limit": AT_MOST, "timeout": TIMEOUT}
    jobs = [("run", {**TASK, "harm": harm})]
    codes = _starter().run(folder, RANKS, parallel, jobs, wake=True, **limits)
    words = [text for text in said(folder, RANKS) if text]
    told = f"{harm}, {parallel}: {codes}, {words}"
    assert None not in codes, f"a rank had not ended after {AT_MOST:g} s: {told}"
    for text in words:
        assert text.startswith("error: "), told
        assert text.count("\n") == 1, told
    took = (folder / "ended").stat().st_mtime - (folder / "run" / "struck").stat().st_mtime
    kept = _whole_checkpoints(folder / "run")
    if in_time:
        assert codes == [0, 0], told
    elif codes != [0, 0]:  # else it was killed after its last step
        killed = harm["how"] == "kill"
        assert codes == [-9 if killed and rank == harm["rank"] else 2 for rank in range(2)], told
        assert words, told
        # The checkpoint of the step before may have been under way.
        assert kept >= harm["step"] - 2, f"more than one interval lost: step {kept}, {told}"
        again = _starter().run(folder, RANKS, parallel, [("run", {**TASK, "resume": True})])
        assert again == [0, 0], f"{told}; continued: {again}, {said(folder, RANKS)}"
    _assert_same(folder / "run", _undisturbed(parallel))
    seen = {"parallel": parallel, "codes": codes, "kept": kept, "ended_after": round(took, 1)}
    return {**harm, **seen}


def _harm(fault: str, draw: random.Random) -> dict[str, Any]:
    where: dict[str, Any] = {"rank": draw.randrange(RANKS), "step": draw.randint(1, STEPS)}
    delay = draw.uniform(0.0, 0.2)
    if fault == "dies":
        return {**where, "how": "kill", "delay": delay}
    if fault == "hangs":
        how = draw.choice(["stop", "sleep", "busy"])
        return {**where, "how": how, **({"delay": delay} if how == "stop" else {})}
    return {**where, "how": "sleep", "seconds": draw.choice([0.4, 1.5]) * TIMEOUT}


@functools.cache
def _starter() -> Starter:
    starter = Starter()
    atexit.register(starter.__exit__)
    return starter


@functools.cache
def _undisturbed(parallel: str) -> Path:
    home = tempfile.TemporaryDirectory(prefix="palate-ranks-")
    atexit.register(home.cleanup)
    folder = Path(home.name)
    codes = _starter().run(folder, RANKS, parallel, [("run", TASK)])
    assert codes == [0, 0], said(folder, RANKS)
    return folder / "run"


def _whole_checkpoints(run: Path) -> int:
    """The step of the newest; raises where any is not whole."""
    steps = [0]
    for place in (run / "checkpoints").glob("step-*"):
        verify_folder(place)
        steps.append(int(place.name.removeprefix("step-")))
    return max(steps)


def _assert_same(found: Path, expected: Path) -> None:
    """Every file of tensors of the last checkpoint, and the metrics but for their times."""
    last = expected / "checkpoints" / f"step-{STEPS}"
    names = [p.relative_to(last) for p in sorted(last.rglob("*")) if p.suffix != ".json"]
    files = [name for name in names if (last / name).is_file()]
    assert files, "the run that nothing befell has a checkpoint"
    for name in files:
        ours = found / "checkpoints" / last.name / name
        assert _tensors(ours) == _tensors(last / name), f"{name} is not the same"
    assert _lines(found) == _lines(expected), "the metrics are not the same"


def _tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """A safetensors file by name: dtype, shape and bytes; the rest of its header has no order."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {
        name: (one["dtype"], one["shape"], raw[start:][slice(*one["data_offsets"])])
        for name, one in header.items()
    }


def _lines(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
