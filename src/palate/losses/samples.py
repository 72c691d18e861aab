"""Answers that the policy sampled itself, with what was known about them when they were drawn.

Shapes: B answers, N their tokens in branch order. Values by token are what
`palate.losses.credit` made of the rewards, and the log-probs of the policy that drew them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Samples:
    """Sampled answers of a micro-batch.

    - `logp_N`: log π of each token now, with gradient.
    - `old_N`: log π of the weights that drew it, by the trainer.
    - `sampler_N`: the same by whoever sampled, or None where it did not say.
    - `advantage_N`: how much better than expected the answer goes on from this token.
    - `return_N`, `value_N`: what a value head should say, and what it says now (gradient).
    - `ref_N`: log π_ref, or None for methods without a reference.
    - `branches_N` names each token's answer, `length_B` counts them; `reward_B` is the
      judge's.
    """

    logp_N: Tensor
    old_N: Tensor
    advantage_N: Tensor
    branches_N: Tensor
    length_B: Tensor
    reward_B: Tensor
    sampler_N: Tensor | None = None
    return_N: Tensor | None = None
    old_value_N: Tensor | None = None
    value_N: Tensor | None = None
    ref_N: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of answers."""
        return int(self.length_B.shape[0])

    def sums_B(self, values_N: Tensor) -> Tensor:
        """Each answer's sum of a value by token."""
        zeros_B = values_N.new_zeros(self.size)
        return zeros_B.index_add(0, self.branches_N, values_N)

    def means_B(self, values_N: Tensor) -> Tensor:
        """Each answer's mean of a value by token."""
        return self.sums_B(values_N) / self.length_B

    @property
    def advantage_B(self) -> Tensor:
        """The advantage of methods that give all tokens of an answer the same."""
        return self.means_B(self.advantage_N)
