"""Does the model rank held-out pairs as their people did, and by how much?

The implicit reward of an answer y to x is log π(y|x) − log π_base(y|x), in nats: DPO's, without its
β (Rafailov et al. 2023, arXiv:2305.18290, equation 5). A pair's margin is the reward of the chosen
answer minus that of the rejected one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.evaluate.intervals import cluster_mean, student_quantile
from palate.evaluate.measure.scoring import Scored
from palate.evaluate.shares import clustered_interval
from palate.records import Example

Numbers = np.ndarray[Any, Any]
SLICES = 12
"""Most values of a tag that are shown as slices; a tag with more names rows, not kinds."""
FEWEST = 5
"""Pairs that a slice has at least."""


def preferences(
    pairs: Sequence[Example],
    model: Sequence[Sequence[Scored]],
    base: Sequence[Sequence[Scored]],
    seed: int = 0,
) -> dict[str, Any] | None:
    """Accuracy and margins of pairs (chosen, then rejected, in `model` and `base`), and by slice.

    `accuracy` is the share of pairs with a margin above 0 (0 counts half), `margin` its mean in
    nats; pairs of one prompt are alike, so that both intervals (95 %) are over prompts.
    `likelihood_accuracy` needs no base: the share of pairs whose chosen answer has more log-prob a
    token, beside the base's own share.
    `chosen` and `rejected` are the mean implicit rewards. None without pairs.
    """
    if not pairs:
        return None
    rewards = np.array(
        [
            [mine.logp - theirs.logp for mine, theirs in zip(m, b, strict=True)]
            for m, b in zip(model, base, strict=True)
        ]
    )
    margins = rewards[:, 0] - rewards[:, 1]
    prompts = np.unique([pair.prompt_key for pair in pairs], return_inverse=True)[1]
    slices = []
    for name, value, rows in _slices(pairs, model):
        part = _share(margins[rows], prompts[rows], seed)
        slices.append(
            {"slice": name, "value": value, **part, "margin": float(margins[rows].mean())}
        )
    return {
        "n": len(pairs),
        "prompts": int(prompts.max()) + 1,
        **_share(margins, prompts, seed),
        **_mean("margin", margins, prompts),
        "chosen": float(rewards[:, 0].mean()),
        "rejected": float(rewards[:, 1].mean()),
        "likelihood_accuracy": _by_likelihood(model),
        "base_likelihood_accuracy": _by_likelihood(base),
        "slices": slices,
    }


def _grouped(values: Numbers, prompts: Numbers) -> Numbers:
    """(sum, number) of each prompt's values, [G, 2]."""
    _, place = np.unique(prompts, return_inverse=True)
    return np.stack([np.bincount(place, values), np.bincount(place).astype(float)], axis=1)


def _share(margins: Numbers, prompts: Numbers, seed: int) -> dict[str, Any]:
    right = np.where(margins == 0, 0.5, margins > 0)
    grouped = _grouped(right, prompts)
    return {
        "pairs": len(margins),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(clustered_interval(grouped, seed)),
    }


def _mean(name: str, values: Numbers, prompts: Numbers) -> dict[str, Any]:
    grouped = _grouped(values, prompts)
    mean, error = cluster_mean(grouped[:, 0], grouped[:, 1])
    if not math.isfinite(error):
        return {name: mean, f"{name}_interval": None}
    reach = student_quantile(0.95, len(grouped) - 1) * error
    return {name: mean, f"{name}_interval": [mean - reach, mean + reach]}


def _by_likelihood(scored: Sequence[Sequence[Scored]]) -> float:
    each = [[one.logp / one.tokens for one in pair] for pair in scored]
    return float(np.mean([1.0 if c > r else 0.5 if c == r else 0.0 for c, r in each]))


def _slices(
    pairs: Sequence[Example], model: Sequence[Sequence[Scored]]
) -> list[tuple[str, str, list[int]]]:
    """(slice, value, rows): by source, by which answer is longer, by tags with few values."""
    by_name: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (example, scored) in enumerate(zip(pairs, model, strict=True)):
        longer = scored[0].tokens - scored[1].tokens
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
