"""heldout.jsonl: each held-out example's own value, measurement by measurement.

Two kinds of lines. `{"kind": "examples", "ids": […], "tokens": [[chosen, rejected], …]}` says which
examples the values that follow belong to; it is written again when they are others. `{"kind":
"values", "step": N, "margin": […]}` holds a measurement, in the same order, null where a value is
not finite. From it a page shows, while a run goes on, the spread of margins and accuracy by slice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.durable import write_text

KEPT = ("margin", "reward")
"""The metrics of which each example's value is kept, where the method has them."""


@dataclass(frozen=True, slots=True)
class Each:
    """One measurement, example by example: ids, tokens of each completion, values by name."""

    ids: Sequence[str]
    tokens: Sequence[Sequence[int]]
    values: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over `n` held-out examples, and what each of them gave if that is kept."""

    n: int
    means: dict[str, float]
    each: Each | None = None


@dataclass(slots=True)
class HeldoutFile:
    """Appends measurements; each is in the file when `append` returns."""

    path: Path
    writes: bool = True  # of several ranks one writes
    _known: tuple[list[str], list[list[int]]] | None = field(default=None, init=False)

    def append(self, step: int, each: Each | None) -> None:
        """Add a measurement; floats are rounded to six significant digits."""
        if not self.writes or each is None or not each.values:
            return
        examples = (list(each.ids), [list(tokens) for tokens in each.tokens])
        lines: list[dict[str, Any]] = []
        if examples != self._known:
            lines.append({"kind": "examples", "ids": examples[0], "tokens": examples[1]})
        values = {name: [_short(v) for v in column] for name, column in each.values.items()}
        lines.append({"kind": "values", "step": step, **values})
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        self._known = examples

    def cut_after(self, step: int, *, measured: bool = True) -> None:
        """Forget later measurements; with `measured` false that of `step` itself too."""
        if not self.writes or not self.path.exists():
            return
        last = step if measured else step - 1
        kept = [line for line in _whole(self.path) if line.get("step", -1) <= last]
        write_text(self.path, "".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept))
        named = [line for line in kept if line["kind"] == "examples"]
        self._known = (named[-1]["ids"], named[-1]["tokens"]) if named else None


def _whole(path: Path) -> list[dict[str, Any]]:
    """All whole lines; one that a crash cut short is left out."""
    found = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
