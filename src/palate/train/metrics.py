"""metrics.jsonl: one line per logging interval, and what a resumed run does to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.durable import write_text
from palate.train.step import StepResult


class MetricsFile:
    """Appends lines; each reaches the file at once, so that a killed run keeps them."""

    def __init__(
        self,
        path: Path,
        *,
        writes: bool = True,
        on_line: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self.path, self.writes = path, writes  # of several ranks one writes
        self.on_line = on_line  # told of each line that is in the file

    def append(self, line: dict[str, Any]) -> None:
        """One JSON object per line; floats are rounded to nine significant digits."""
        if not self.writes:
            return
        text = json.dumps({k: _short(v) for k, v in line.items()}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.on_line(line)

    def cut_after(self, step: int, *, measured: bool = True) -> None:
        """Forget what came after `step`: a resumed run writes it again.

        With `measured` false the held-out line of `step` itself is forgotten too.
        """
        if not self.writes or not self.path.exists():
            return
        last = {"train": step, "rollout": step, "heldout": step if measured else step - 1}
        kept = [line for line in read_metrics(self.path) if line["step"] <= last[line["kind"]]]
        write_text(self.path, "".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line that a crash cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


class Averages:
    """Means of per-example metrics over the examples of an interval."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add one step's unreduced metrics; nothing is read from the device yet."""
        for name, values in metrics.items():
            total = values.double().sum() if values.device.type != "mps" else values.sum()
            self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.count += len(next(iter(metrics.values())))

    def read(self) -> dict[str, float]:
        """The means; starts a new interval."""
        means = {name: float(total) / max(1, self.count) for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


@dataclass(slots=True)
class Interval:
    """The steps since the last line of metrics.jsonl.

    `loss` is the sum of what the steps minimised; a checkpoint carries all of it (`to_json`),
    so that the next line is the same in a run that was interrupted before it.
    """

    averages: Averages = field(default_factory=Averages)
    steps: int = 0
    loss: float | Tensor = 0.0
    unique_tokens: int = 0
    path_tokens: int = 0

    def add(self, result: StepResult) -> None:
        """Count one step."""
        self.averages.add(result.metrics)
        self.steps += 1
        self.loss = self.loss + result.loss
        self.unique_tokens += result.unique_tokens
        self.path_tokens += result.path_tokens

    def sizes(self) -> dict[str, int]:
        """Examples and tokens of all steps of the interval."""
        return {
            "examples": self.averages.count,
            "unique_tokens": self.unique_tokens,
            "path_tokens": self.path_tokens,
        }

    def means(self) -> dict[str, float]:
        """Metrics by example and the loss by step; the sums of metrics start anew."""
        return {**self.averages.read(), "loss": float(self.loss) / max(1, self.steps)}

    def to_json(self) -> dict[str, Any]:
        """All sums as JSON numbers, which keep every bit of a float64."""
        sums = {name: float(total) for name, total in self.averages.sums.items()}
        counts = {"steps": self.steps, "loss": float(self.loss), **self.sizes()}
        return {"sums": sums, **counts}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Interval:
        """Inverse of `to_json`; an empty mapping is an empty interval."""
        if not raw:
            return cls()
        averages = Averages()
        averages.count = raw["examples"]
        averages.sums = {
            name: torch.tensor(total, dtype=torch.float64) for name, total in raw["sums"].items()
        }
        return cls(averages, raw["steps"], raw["loss"], raw["unique_tokens"], raw["path_tokens"])


def _short(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value
