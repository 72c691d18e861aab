"""Tasks of EleutherAI's lm-evaluation-harness by their names, where that is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from palate.config import ConfigError
from palate.evaluate.measure.candidate import Candidate
from palate.evaluate.measure.kept import kept_rows
from palate.model.load import resolve
from palate.model.place import pick_device
from palate.resumable import Row


def check_tasks(names: Sequence[str]) -> None:
    """Raise `ConfigError` with the cure where tasks are wanted and lm-eval is not there."""
    if names and not _installed():
        raise ConfigError("evaluate.tasks needs the package lm-eval: pip install 'lm_eval[hf]'")


def _installed() -> bool:
    try:
        return importlib.util.find_spec("lm_eval") is not None
    except ValueError:  # a module that was taken away has no spec
        return False


def task_values(
    candidate: Candidate,
    names: Sequence[str],
    limit: int | None,
    device: str,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, dict[str, float]]:
    """What lm-eval measures of each task: its metrics by name, as it reports them.

    Zero-shot or as the task says itself, over its first `limit` rows (None: all), from the cache
    where they are there. Raises `ConfigError` for what lm-eval refuses.
    """

    def work(group: Sequence[str], _: int) -> list[Row]:
        rows = [_values(candidate, name, limit, device) for name in group]
        advance(len(group))
        return rows

    found = {}
    for name in names:
        settings = {
            "model": candidate.identity,
            "task": name,
            "limit": limit,
            "lm-eval": _version(),
        }
        (found[name],) = kept_rows("tasks", settings, [name], 1, work, advance)
    return found


def _version() -> str:
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        return ""


def _values(candidate: Candidate, name: str, limit: int | None, device: str) -> dict[str, float]:
    lm_eval = importlib.import_module("lm_eval")
    arguments: dict[str, Any] = {
        "pretrained": resolve(candidate.place),
        "trust_remote_code": candidate.trust_remote_code,
    }
    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=arguments,
            tasks=[name],
            limit=limit,
            device=pick_device(device),
            log_samples=False,
        )
        values = found["results"][name]
    except Exception as error:  # somebody else's program: whatever it raises is about the task
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"lm-eval cannot measure the task '{name}': {first}") from error
    return {
        metric.removesuffix(",none"): float(value)
        for metric, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and metric != "sample_len"
    }


def beside(
    model: dict[str, dict[str, float]], base: dict[str, dict[str, float]]
) -> dict[str, dict[str, dict[str, float]]] | None:
    """By task and metric, the two models' values; None without tasks."""
    found = {
        task: {
            metric: {"model": value, "base": base[task][metric]}
            for metric, value in values.items()
            if metric in base.get(task, {})
        }
        for task, values in model.items()
    }
    return found or None
