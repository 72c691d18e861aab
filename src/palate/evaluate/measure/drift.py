"""How far the model has moved from its base: on its own text, and on texts that it should know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.evaluate.intervals import cluster_mean, student_quantile
from palate.evaluate.measure.scoring import Scored


def sampled_kl(
    model: Sequence[Sequence[Scored]], base: Sequence[Sequence[Scored]]
) -> dict[str, Any] | None:
    """KL(π ‖ π_base) in nats, on text that π wrote: `model[i][k]` is answer k to prompt i.

    The mean over answers of Σ_t [log π(y_t) − log π_base(y_t)], with a standard error clustered by
    prompt. Where answers are drawn at temperature 1 from all tokens, its expectation is the KL of
    whole answers; as users draw them, it is the drift on what users see.
    `per_token` divides by all tokens; `entropy` is the mean over tokens of the entropy of π, in
    nats. None without answers.
    """
    groups = [
        [(m.logp - b.logp, m.tokens, m.entropy) for m, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(model, base, strict=True)
        if mine
    ]
    if not groups:
        return None
    sums = np.array([sum(kl for kl, _, _ in group) for group in groups])
    mean, error = cluster_mean(sums, np.array([float(len(group)) for group in groups]))
    tokens = sum(count for group in groups for _, count, _ in group)
    return {
        "answers": sum(len(group) for group in groups),
        "kl": mean,
        "kl_error": error if math.isfinite(error) else None,
        "kl_per_token": float(sums.sum()) / tokens,
        "entropy": sum(h for group in groups for _, _, h in group) / tokens,
    }


def mean_entropy(scored: Sequence[Sequence[Scored]]) -> float | None:
    """Mean over all tokens of the entropy before them, in nats."""
    tokens = sum(one.tokens for group in scored for one in group)
    return sum(one.entropy for group in scored for one in group) / tokens if tokens else None


def forgetting(
    model: Sequence[Sequence[Scored]], base: Sequence[Sequence[Scored]]
) -> dict[str, Any] | None:
    """Perplexity of given answers under the model and its base, and the relative rise.

    exp of the mean negative log-prob over all of their tokens. `rise` has a 95 % interval: the
    difference of mean log-probs is a ratio over answers (Cochran 1977, 6.3), with Student's t.
    None without answers.
    """
    pairs = [
        (mine, theirs)
        for ours, other in zip(model, base, strict=True)
        for mine, theirs in zip(ours, other, strict=True)
    ]
    if not pairs:
        return None
    lost = np.array([theirs.logp - mine.logp for mine, theirs in pairs])
    counts = np.array([float(mine.tokens) for mine, _ in pairs])
    mean, error = cluster_mean(lost, counts)
    interval = None
    if math.isfinite(error):
        reach = student_quantile(0.95, len(pairs) - 1) * error
        interval = [_growth(mean - reach), _growth(mean + reach)]
    return {
        "answers": len(pairs),
        "tokens": int(counts.sum()),
        "perplexity": perplexity([mine for mine, _ in pairs]),
        "base_perplexity": perplexity([theirs for _, theirs in pairs]),
        "rise": _growth(mean),
        "rise_interval": interval,
    }


def perplexity(scored: Sequence[Scored]) -> float:
    """exp(−Σ log π / Σ tokens)."""
    return 1 + _growth(-sum(one.logp for one in scored) / sum(one.tokens for one in scored))


def _growth(nats: float) -> float:
    """exp(nats) − 1; infinite where no float holds it, as of a model that diverged."""
    try:
        return math.expm1(nats)
    except OverflowError:
        return math.inf
