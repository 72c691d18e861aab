"""Does the model rank held-out pairs as their people did, and by how much?

The implicit reward of an answer y to x is log π(y|x) − log π_base(y|x), in nats: DPO's, without its
β (Rafailov et al. 2023, arXiv:2305.18290, equation 5). A pair's margin is the reward of the chosen
answer minus that of the rejected one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.evaluate.intervals import cluster_mean, student_quantile
from palate.evaluate.measure.scoring import Scored
from palate.evaluate.slices import Numbers, by_prompt, by_slice, ranked_right
from palate.records import Example


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
    tokens = [[one.tokens for one in pair] for pair in model]
    return {
        "n": len(pairs),
        "prompts": int(prompts.max()) + 1,
        **ranked_right(margins, prompts, seed),
        **_mean("margin", margins, prompts),
        "chosen": float(rewards[:, 0].mean()),
        "rejected": float(rewards[:, 1].mean()),
        "likelihood_accuracy": _by_likelihood(model),
        "base_likelihood_accuracy": _by_likelihood(base),
        "slices": by_slice(pairs, tokens, margins, prompts, seed),
    }


def _mean(name: str, values: Numbers, prompts: Numbers) -> dict[str, Any]:
    grouped = by_prompt(values, prompts)
    mean, error = cluster_mean(grouped[:, 0], grouped[:, 1])
    if not math.isfinite(error):
        return {name: mean, f"{name}_interval": None}
    reach = student_quantile(0.95, len(grouped) - 1) * error
    return {name: mean, f"{name}_interval": [mean - reach, mean + reach]}


def _by_likelihood(scored: Sequence[Sequence[Scored]]) -> float:
    each = [[one.logp / one.tokens for one in pair] for pair in scored]
    return float(np.mean([1.0 if c > r else 0.5 if c == r else 0.0 for c, r in each]))
