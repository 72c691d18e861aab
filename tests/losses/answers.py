"""Sampled answers from numbers: what a loss on samples reads, and what credit is given for."""

from __future__ import annotations

import torch
from tests.losses.sides import Numbers, wide
from torch import Tensor

from palate.losses.credit import Scored
from palate.losses.samples import Samples


def branches(length: Numbers) -> tuple[Tensor, Tensor]:
    """Each token's answer, and the lengths."""
    length_B = wide(length).long()
    return torch.arange(len(length_B)).repeat_interleave(length_B), length_B


def samples(
    logp: Numbers,
    length: Numbers,
    advantage: Numbers,
    *,
    old: Numbers | None = None,
    reward: Numbers | None = None,
    **others: Numbers | None,
) -> Samples:
    """Answers of these lengths and advantages by answer, drawn by the policy as it is."""
    branches_N, length_B = branches(length)
    logp_N = wide(logp)
    return Samples(
        logp_N=logp_N,
        old_N=logp_N.detach() if old is None else wide(old),
        advantage_N=wide(advantage)[branches_N],
        branches_N=branches_N,
        length_B=length_B,
        reward_B=logp_N.new_zeros(len(length_B)) if reward is None else wide(reward),
        **{f"{name}_N": None if v is None else wide(v) for name, v in others.items()},
    )


def scored(
    reward: Numbers,
    group: list[int],
    length: Numbers | None = None,
    *,
    ratio: Numbers | None = None,
    value: Numbers | None = None,
) -> Scored:
    """Answers with these rewards and, by token, log π/π_ref and values; else of one token each."""
    branches_N, length_B = branches([1.0] * len(group) if length is None else length)
    old_N = torch.full((len(branches_N),), -3.0, dtype=torch.float64)
    return Scored(
        reward_B=wide(reward),
        group_B=torch.tensor(group),
        length_B=length_B,
        branches_N=branches_N,
        old_N=old_N,
        ref_N=None if ratio is None else old_N - wide(ratio),
        value_N=None if value is None else wide(value),
    )
