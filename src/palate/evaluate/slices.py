"""Held-out pairs by source, by length and by tag: who is ranked right, and with which interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.evaluate.shares import clustered_interval
from palate.records import Example

Numbers = np.ndarray[Any, Any]
SLICES = 12
"""Most values of a tag that are shown as slices; a tag with more names rows, not kinds."""
FEWEST = 5
"""Pairs that a slice has at least."""


def ranked_right(margins: Numbers, prompts: Numbers, seed: int) -> dict[str, Any]:
    """The share of margins above 0 (0 counts half) with its interval over prompts, 95 %."""
    right = np.where(margins == 0, 0.5, margins > 0)
    return {
        "pairs": len(margins),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(clustered_interval(by_prompt(right, prompts), seed)),
    }


def by_prompt(values: Numbers, prompts: Numbers) -> Numbers:
    """(sum, number) of each prompt's values, [G, 2]."""
    _, place = np.unique(prompts, return_inverse=True)
    return np.stack([np.bincount(place, values), np.bincount(place).astype(float)], axis=1)


def by_slice(
    pairs: Sequence[Example],
    tokens: Sequence[Sequence[int]],
    margins: Numbers,
    prompts: Numbers,
    seed: int,
) -> list[dict[str, Any]]:
    """Of each slice its pairs, the share ranked right, and the mean margin.

    `tokens` are those of each pair's chosen and rejected answer, `margins` [B] and `prompts` [B]
    are the pairs' margins and which of them have the same prompt.
    """
    return [
        {
            "slice": name,
            "value": value,
            **ranked_right(margins[rows], prompts[rows], seed),
            "margin": float(margins[rows].mean()),
        }
        for name, value, rows in _slices(pairs, tokens)
    ]


def _slices(
    pairs: Sequence[Example], tokens: Sequence[Sequence[int]]
) -> list[tuple[str, str, list[int]]]:
    """(slice, value, rows): by source, by which answer is longer, by tags with few values."""
    by_name: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (example, sizes) in enumerate(zip(pairs, tokens, strict=True)):
        longer = sizes[0] - sizes[1]
        word = "chosen longer" if longer > 0 else "rejected longer" if longer < 0 else "equal"
        by_name["length"][word].append(row)
        if example.provenance:
            by_name["source"][example.provenance[0].source].append(row)
        by_name["by"][example.verdict.by if example.verdict else "file"].append(row)
        for tag, value in example.tags.items():
            by_name[f"tag {tag}"][value].append(row)
    found = []
    for name, values in by_name.items():
        large = {value: rows for value, rows in values.items() if len(rows) >= FEWEST}
        if 1 < len(values) <= SLICES and large:
            found += [(name, value, rows) for value, rows in sorted(large.items())]
    return found
