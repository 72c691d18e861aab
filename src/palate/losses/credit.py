"""Credit: from rewards of whole answers to an advantage for each token. No gradient anywhere.

Shapes: B answers, N their tokens in branch order, groups of answers to one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palate.losses.batch import State


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known about the answers of a rollout, all float64.

    - `reward_B`: the judge's; `group_B`: which prompt each answers; `length_B`: tokens.
    - `branches_N` names each token's answer.
    - `old_N`: log π of the weights that drew it; `ref_N`: log π_ref where the method has a
      reference; `value_N`: what the value head said before each token, where there is one.
    """

    reward_B: Tensor
    group_B: Tensor
    length_B: Tensor
    branches_N: Tensor
    old_N: Tensor
    ref_N: Tensor | None = None
    value_N: Tensor | None = None

    def spread(self, values_B: Tensor) -> Tensor:
        """A value by answer, given to each of its tokens."""
        return values_B[self.branches_N]

    def sums_B(self, values_N: Tensor) -> Tensor:
        """Each answer's sum of a value by token."""
        return torch.zeros_like(self.reward_B).index_add(0, self.branches_N, values_N)

    @property
    def ratio_N(self) -> Tensor:
        """log π − log π_ref of each token; zeros without a reference."""
        return torch.zeros_like(self.old_N) if self.ref_N is None else self.old_N - self.ref_N

    @property
    def last_N(self) -> Tensor:
        """1 at each answer's last token, else 0."""
        ends = torch.cumsum(self.length_B, 0) - 1
        return torch.zeros_like(self.old_N).index_fill(0, ends.long(), 1.0)


@dataclass(frozen=True, slots=True)
class Credit:
    """The advantages [N], returns [N] for a value head, new state, and means to report."""

    advantage_N: Tensor
    return_N: Tensor | None = None
    state: State = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def group_means_B(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Each answer's mean over its group."""
    return _group_sums(values_B, group_B)[group_B] / _group_sizes(group_B)[group_B]


def group_stds_B(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Each answer's standard deviation over its group, with n − 1; 0 for a group of one."""
    centred_B = values_B - group_means_B(values_B, group_B)
    size_B = _group_sizes(group_B)[group_B]
    return (_group_sums(centred_B**2, group_B)[group_B] / (size_B - 1).clamp(min=1)).sqrt()


def leave_one_out_B(values_B: Tensor, group_B: Tensor) -> Tensor:
    """r_i less the mean of the others of its group: G/(G−1)·(r_i − mean) (arXiv 2402.14740).

    An answer that is alone in its group has no others, and no advantage.
    """
    size_B = _group_sizes(group_B)[group_B]
    centred_B = values_B - group_means_B(values_B, group_B)
    return centred_B * size_B / (size_B - 1).clamp(min=1)


def flat_share(values_B: Tensor, group_B: Tensor) -> float:
    """Share of the groups whose answers all earned the same, so that nothing is learned."""
    flat_B = spreads_B(values_B, group_B) == 0
    first = {int(g): bool(f) for g, f in zip(group_B, flat_B, strict=True)}
    return sum(first.values()) / max(1, len(first))


def spreads_B(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Each answer's group's largest value less its smallest."""
    groups = int(group_B.max()) + 1
    high = values_B.new_full((groups,), -torch.inf).scatter_reduce(0, group_B, values_B, "amax")
    low = values_B.new_full((groups,), torch.inf).scatter_reduce(0, group_B, values_B, "amin")
    return (high - low)[group_B]


def to_go_N(rewards_N: Tensor, lengths: Tensor, gamma: float = 1.0) -> Tensor:
    """Σ_{s ≥ t} γ^{s−t} r_s within each answer."""
    return gae_N(rewards_N, torch.zeros_like(rewards_N), lengths, gamma, 1.0)


def gae_N(rewards_N: Tensor, values_N: Tensor, lengths: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γV_{t+1} − V_t, and V = 0 after an answer's end.
    """
    advantage_N = torch.empty_like(rewards_N)
    ends_B = torch.cumsum(lengths, 0)
    carried_B = rewards_N.new_zeros(len(lengths))
    following_B = rewards_N.new_zeros(len(lengths))
    # From the last tokens backwards, all answers at once: a rollout has some 100 000 tokens.
    for back in range(1, int(lengths.max()) + 1):
        going = lengths >= back
        at = (ends_B - back)[going].long()
        delta = rewards_N[at] + gamma * following_B[going] - values_N[at]
        carried_B[going] = delta + gamma * lam * carried_B[going]
        following_B[going] = values_N[at]
        advantage_N[at] = carried_B[going]
    return advantage_N


def whitened(values: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 (with n − 1); all zeros where nothing varies."""
    if len(values) < 2:
        return torch.zeros_like(values)
    centred = values - values.mean()
    return centred / (centred.std() + 1e-8)


def _group_sums(values_B: Tensor, group_B: Tensor) -> Tensor:
    return values_B.new_zeros(int(group_B.max()) + 1).index_add(0, group_B, values_B)


def _group_sizes(group_B: Tensor) -> Tensor:
    return torch.bincount(group_B).to(torch.float64)
