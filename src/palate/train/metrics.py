"""metrics.jsonl: one line per logging interval, and what a resumed run does to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from palate.durable import write_text


class MetricsFile:
    """Appends lines; each reaches the file at once, so that a killed run keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: dict[str, Any]) -> None:
        """One JSON object per line; floats are rounded to nine significant digits."""
        text = json.dumps({k: _short(v) for k, v in line.items()}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut_after(self, step: int) -> None:
        """Forget what came after `step`: a resumed run writes it again."""
        if self.path.exists():
            kept = [line for line in read_metrics(self.path) if line["step"] <= step]
            write_text(self.path, "".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line that a crash cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
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

    def add(self, metrics: dict[str, Tensor]) -> None:
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


def _short(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value
