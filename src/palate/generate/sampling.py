"""Sampling from a policy: many prompts at once, their common beginning computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from palate.generate.draw import Mixture, Sample, Sampling
from palate.generate.padded import decode, most_positions
from palate.model.policy import Policy

__all__ = ["Mixture", "Sample", "Sampling", "most_positions", "sample"]


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    n: int = 1,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda count: None,
    mixture: Mixture | None = None,
) -> list[list[Sample]]:
    """`n` answers to each prompt, in the prompts' order.

    `prompts` are token ids that end where the answer begins. `advance` is told how many
    answers are done. With a `mixture`, tokens are drawn from it, and `logps` stay the
    policy's own. Raises `ValueError` for an empty prompt.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    policy.attend(policy.plain_attention)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    group = max(1, batch_size // n)
    answers: list[list[Sample]] = [[] for _ in prompts]
    for begin in range(0, len(order), group):
        chosen = order[begin : begin + group]
        uniforms = np.stack([sampling.uniforms(i, k) for i in chosen for k in range(n)])
        rows = [prompts[i] for i in chosen]
        with policy.autocast():
            found = decode(policy, rows, uniforms, sampling, end_ids, n, mixture)
        for place, index in enumerate(chosen):
            answers[index] = found[place * n : (place + 1) * n]
        advance(len(chosen) * n)
    return answers
