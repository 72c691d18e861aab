"""Held-out examples one by one, from heldout.jsonl: how the margins are spread, and by slice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from palate.evaluate.measured import slice_rows
from palate.evaluate.slices import by_slice
from palate.evaluate.wording import decimal, percent
from palate.records import Example
from palate.store.columns import read_parquet
from palate.ui.runs.columns import Numbers

FILE = "heldout.jsonl"
BARS = 31
_KEPT = 16
_NAMES = {"margin": "margin", "reward": "reward of the answer"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of heldout.jsonl: values [B] of the examples `ids`, with their answers' tokens."""

    step: int
    name: str
    values: Numbers
    ids: Sequence[str]
    tokens: Sequence[Sequence[int]]


class Spreads:
    """What a page shows of a run's held-out examples; made anew when the file has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, int | None], tuple[object, dict[str, Any]]]
        self._kept = OrderedDict()
        self._examples: OrderedDict[Path, tuple[object, Mapping[str, Example]]] = OrderedDict()

    def of(self, folder: Path, step: int | None = None) -> dict[str, Any] | None:
        """The measurement of `step`, or the last one; None where none was written."""
        stamp = _stamp(folder / FILE)
        key = (folder, step)
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        steps, found = read_measurement(folder / FILE, step)
        if found is None:
            return None
        told = {"steps": steps, **spread(found), **self._slices(folder, found)}
        with self._lock:
            _keep(self._kept, key, (stamp, told))
        return told

    def _slices(self, folder: Path, found: Measurement) -> dict[str, Any]:
        examples = self._heldout(folder)
        pairs = all(len(tokens) == 2 for tokens in found.tokens)
        if found.name != "margin" or not pairs:
            return {"slices": [], "no_slices": "slices are of pairs"}
        rows = [r for r, one in enumerate(found.ids) if one in examples]
        rows = [r for r in rows if np.isfinite(found.values[r])]
        if not rows:
            return {"slices": [], "no_slices": "the run's snapshot has no such examples"}
        mine = [examples[found.ids[r]] for r in rows]
        prompts = np.unique([one.prompt_key for one in mine], return_inverse=True)[1]
        tokens = [found.tokens[r] for r in rows]
        slices = by_slice(mine, tokens, found.values[rows], prompts, 0)
        why = "" if slices else "too few held-out pairs, or they are all of one kind"
        return {"slices": slice_rows(slices), "no_slices": why}

    def _heldout(self, folder: Path) -> Mapping[str, Example]:
        path = folder / "snapshot" / "heldout.parquet"
        stamp = _stamp(path)
        with self._lock:
            known = self._examples.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            found = {example.id: example for example in read_parquet(path)}
        except (OSError, ValueError):
            found = {}
        with self._lock:
            _keep(self._examples, path, (stamp, found))
        return found


def read_measurement(path: Path, step: int | None) -> tuple[list[int], Measurement | None]:
    """All steps that were measured, and the measurement of `step` (the last, where None)."""
    try:
        text = path.read_bytes()
    except OSError:
        return [], None
    ids: Sequence[str] = []
    tokens: Sequence[Sequence[int]] = []
    by_step: dict[int, Measurement] = {}
    for raw in text.split(b"\n"):
        try:
            line = orjson.loads(raw)
        except ValueError:
            continue
        if not isinstance(line, dict):
            continue
        if line.get("kind") == "examples" and _are_examples(line):
            ids, tokens = line["ids"], line["tokens"]
        elif line.get("kind") == "values" and isinstance(line.get("step"), int):
            found = _measurement(line, ids, tokens)
            if found is not None:
                by_step[found.step] = found
    steps = sorted(by_step)
    if not steps:
        return [], None
    return steps, by_step.get(steps[-1] if step is None else step)


def _are_examples(line: Mapping[str, Any]) -> bool:
    ids, tokens = line.get("ids"), line.get("tokens")
    return (
        isinstance(ids, list)
        and isinstance(tokens, list)
        and len(ids) == len(tokens)
        and all(isinstance(one, str) for one in ids)
        and all(isinstance(one, list) and all(type(n) is int for n in one) for one in tokens)
    )


def _measurement(
    line: Mapping[str, Any], ids: Sequence[str], tokens: Sequence[Sequence[int]]
) -> Measurement | None:
    for name in _NAMES:
        values = line.get(name)
        if not isinstance(values, list) or len(values) != len(ids):
            continue
        if all(v is None or type(v) in (int, float) for v in values):
            return Measurement(line["step"], name, np.array(values, np.float64), ids, tokens)
    return None


def spread(found: Measurement) -> dict[str, Any]:
    """A histogram with a bar's edge at 0, and what stands below and above it."""
    values = found.values[np.isfinite(found.values)]
    edges = _edges(values)
    counts = np.histogram(values, edges)[0].tolist() if len(edges) else []
    n = len(values)
    right = float(np.where(values == 0, 0.5, values > 0).mean()) if n else None
    words = f"{n} held-out examples at step {found.step}"
    if n:
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
        words += f": half lie below {decimal(middle)}, nine in ten from {decimal(low)} to "
        words += decimal(high)
    if found.name == "margin" and right is not None:
        words += f"; {percent(right)} are above 0, ranked as their people did"
    return {
        "step": found.step,
        "name": found.name,
        "title": _NAMES[found.name],
        "n": n,
        "bars": [
            {"from": edges[i], "to": edges[i + 1], "count": count} for i, count in enumerate(counts)
        ],
        "words": f"{words}.",
    }


def _edges(values: Numbers) -> list[float]:
    """Equal bars over all values, one of whose edges is 0 where values lie on both sides."""
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [low - 0.5, low + 0.5]
    if not low < 0 < high:
        return [float(edge) for edge in np.linspace(low, high, BARS + 1)]
    width = (high - low) / (BARS - 1)
    return [width * i for i in range(int(np.floor(low / width)), int(np.ceil(high / width)) + 1)]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
