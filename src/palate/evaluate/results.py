"""What results.json says of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from palate.evaluate.answers import Comparison
from palate.evaluate.intervals import wilson
from palate.train.metrics import read_metrics
from palate.train.task import Progress, Task


def results_of(task: Task, progress: Progress, comparison: Comparison | None) -> dict[str, Any]:
    """What results.json says; totals come from metrics.jsonl, which survives a resume."""
    lines = read_metrics(task.folder / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "train"]
    unique, path, seconds = (
        sum(line[key] for line in steps) for key in ("unique_tokens", "path_tokens", "seconds")
    )
    seen = sum(line["examples"] for line in steps)
    return {
        "comparison": comparison.to_dict() if comparison else None,
        "best_step": progress.best,
        "stopped_early": progress.stopped,
        "data": task.method.data,
        "rollouts": _rollouts(lines),
        "heldout": _heldout(progress.heldout, len(task.heldout.examples)),
        "step0": {
            "loss": steps[0]["loss"],
            "expected": task.method.first_loss(task.params),
            "mean_abs_h": steps[0].get("abs_h"),
            "max_abs_h": steps[0].get("max_abs_h"),
        },
        "training": {
            "seconds": seconds,
            "steps": progress.steps,
            "examples": len(task.train.examples),
            "pairs_per_second": seen / seconds if seconds else None,
            "unique_tokens": unique,
            "path_tokens": path,
            "sharing": path / unique if unique else None,
            "lr": task.lr,
        },
        "method": {"name": task.method.name, **asdict(task.params)},
    }


def _rollouts(lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What was sampled on the way, and the first and the last rollout's means; None without."""
    found = [line for line in lines if line["kind"] == "rollout"]
    if not found:
        return None
    names = ("reward", "passed", "length", "ended", "kl", "flat")
    ends = ({n: line[n] for n in names if n in line} for line in (found[0], found[-1]))
    first, last = ends
    return {
        "count": len(found),
        "answers": sum(line["answers"] for line in found),
        "failed": sum(line["failed"] for line in found),
        "seconds": sum(line["seconds"] for line in found),
        "first": first,
        "last": last,
    }


def _heldout(means: dict[str, float], n: int) -> dict[str, Any] | None:
    if not means:
        return None
    names = ("loss", "margin", "accuracy", "reward", "passed")
    found: dict[str, Any] = {name: means[name] for name in names if name in means}
    if "accuracy" in means:
        found["accuracy_interval"] = list(wilson(means["accuracy"] * n, n))
    return {"n": n, **found}
