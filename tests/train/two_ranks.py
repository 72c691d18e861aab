"""What each of several ranks does in test_parallel.py: a program, started once for many tests.

`python -m tests.train.two_ranks FOLDER` runs the jobs of FOLDER/jobs.json one after the other,
in the process group that the environment describes. What a job trained is in its checkpoints,
what it wrote in FOLDER/NAME/metrics.jsonl, and what each rank saw in FOLDER/NAME/rank-R.json.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import MOVING, FixedReference, ids, make_task, pair, stopping_after
from tests.train.test_step import COUPLED
from torch import Tensor

from palate.losses.registry import METHODS
from palate.model.adapters import trainable
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.loop import run_loop
from palate.train.parallel import ALONE, PeerFailed, Ranks, join
from palate.train.shapes import MicroBatch
from palate.train.task import Interrupted, Split, Task, Watcher

METHOD = {"dpo": METHODS["dpo"], "moving": MOVING, "coupled": COUPLED}
EXAMPLES = 9  # 4 a step: batches of 4, 4, 1, the last of which leaves one of two ranks without


def uneven_pairs() -> list[Rendered]:
    """Every third pair has long answers, so that ranks get different numbers of examples."""
    pairs = [pair(i) for i in range(EXAMPLES)]
    return [_lengthened(one) if row % 3 == 0 else one for row, one in enumerate(pairs)]


def _lengthened(one: Rendered) -> Rendered:
    branches = [
        Branch([*branch.ids, *ids(20, 900 + n)], [*branch.mask, *([True] * 20)])
        for n, branch in enumerate(one.branches)
    ]
    return replace(one, branches=tuple(branches))


def task_of(folder: Path, ranks: Ranks = ALONE, *, method: str = "dpo", **settings: Any) -> Task:
    """The usual task with nine examples, small micro-batches and decay on every matrix."""
    base = make_task(folder, method=METHOD[method], **settings)
    examples = uneven_pairs()
    return replace(base, train=Split(examples, FixedReference(examples)), ranks=ranks)


def run_job(
    folder: Path,
    ranks: Ranks = ALONE,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    harm: str | None = None,
    **settings: Any,
) -> list[str]:
    """Train; returns the notes. Only the last rank is asked to stop, or comes to harm."""
    task = task_of(folder, ranks, **settings)
    last = ranks.rank == ranks.world - 1
    if harm and last:
        task = replace(task, train=Split(task.train.examples, _Harmed(task.train, harm)))
    notes: list[str] = []
    watch = Watcher(on_note=notes.append)
    if stop_after and last:
        watch.should_stop = stopping_after(stop_after)
    with pytest.raises(Interrupted) if stop_after else nullcontext():
        run_loop(task, resume=resume, watch=watch)
    if ranks.parallel == "ddp":
        sums = {
            name: float(w.detach().double().sum()) for name, w in trainable(task.policy).items()
        }
    else:
        sums = {}
    seen = {"notes": notes, "weights": sums}
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    return notes


class _Harmed:
    """A reference whose third lookup fails, or ends the process as the kernel would."""

    def __init__(self, split: Split, how: str) -> None:
        self.inner, self.how, self.left = split.reference, how, 3

    def __call__(self, micro: MicroBatch) -> Tensor:
        self.left -= 1
        if self.left == 0 and self.how == "error":
            raise ValueError("row 7 has no log-probs")
        if self.left == 0:
            os._exit(9)
        assert self.inner is not None
        return self.inner(micro) * (float("nan") if self.how == "nan" else 1)


def main(folder: Path) -> None:
    """Run the jobs; an error ends as at the command line, in at most one line."""
    torch.set_num_threads(1)
    plan = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
    try:
        with join(plan["parallel"]) as ranks:
            for name, settings in plan["jobs"]:
                run_job(folder / name, ranks, **settings)
    except (PeerFailed, ValueError, FloatingPointError) as error:
        if str(error):
            sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
