"""Sampling from a policy: many answers at once, what their prompts share computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from palate.generate.choice import why_padded
from palate.generate.continuous import continuous
from palate.generate.draw import Mixture, Sample, Sampling
from palate.generate.padded import most_positions, padded
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

    `prompts` are token ids that end where the answer begins; at most `batch_size` answers
    are computed at once. `advance` is told how many are done. With a `mixture`, tokens are
    drawn from it, and `logps` stay the policy's own. Raises `ValueError` for an empty prompt.

    Answers do not depend on `batch_size` or on the other prompts, but for rounding. Models
    for which `palate.generate.choice` cannot prove the fast engine are sampled from in padded
    batches, several times slower.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    if not prompts or n < 1 or sampling.max_new_tokens < 1:
        return [[Sample((), False)] * n for _ in prompts]
    longest = max(len(prompt) for prompt in prompts) + sampling.max_new_tokens
    engine = continuous if why_padded(policy, longest) is None else padded
    return engine(
        policy,
        prompts,
        sampling,
        end_ids=end_ids,
        n=n,
        batch_size=max(1, batch_size),
        advance=advance,
        mixture=mixture,
    )
