"""How far the sampler's log-probs are from the trainer's, and weights that correct for it.

Both see the same tokens and the same weights, but not the same kernels, and a server perhaps
older weights. What is trained on was then drawn from q, the sampler's distribution, and not
from π, the trainer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Values = np.ndarray | Sequence[float]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Statistics over `tokens` tokens drawn from q; nats a token.

    - `mean`, `worst`: of |log q − log π|.
    - `kl`: the mean of log q − log π, which estimates KL(q ‖ π) without bias.
    - `ess`: (Σ w)² / (N Σ w²) with w = π/q, the share of the tokens that N weighted ones are
      worth; 1 where the two agree.
    """

    tokens: int
    mean: float
    worst: float
    kl: float
    ess: float


def mismatch(sampler_logps: Values, trainer_logps: Values) -> Mismatch:
    """Compare log q with log π, token by token; raises `ValueError` where the counts differ."""
    difference = _difference(sampler_logps, trainer_logps)
    if not len(difference):
        return Mismatch(0, 0.0, 0.0, 0.0, 1.0)
    weight = np.exp(-difference - np.max(-difference))  # a common factor does not matter
    size = np.abs(difference)
    return Mismatch(
        tokens=len(difference),
        mean=float(size.mean()),
        worst=float(size.max()),
        kl=float(difference.mean()),
        ess=float(weight.sum() ** 2 / (len(weight) * np.square(weight).sum())),
    )


def truncated_weights(
    sampler_logps: Values, trainer_logps: Values, most: float = 2.0
) -> np.ndarray:
    """min(π/q, most) for each token, float64 (Ionides 2008, truncated importance sampling).

    Weights that are cut bias the sum and bound its variance. Raises `ValueError` where the
    counts differ.
    """
    weight: np.ndarray = np.exp(-_difference(sampler_logps, trainer_logps).clip(min=-np.log(most)))
    return weight


def _difference(sampler_logps: Values, trainer_logps: Values) -> np.ndarray:
    """log q − log π, float64."""
    sampler = np.asarray(sampler_logps, dtype=np.float64)
    trainer = np.asarray(trainer_logps, dtype=np.float64)
    if sampler.shape != trainer.shape or sampler.ndim != 1:
        raise ValueError(
            f"{sampler.size} log-probs of the sampler and {trainer.size} of the trainer: compare "
            "the same tokens, and let the sampler keep its log-probs"
        )
    return sampler - trainer
