"""What the policy-gradient methods have in common: ratios, clipping, KL estimators, metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.losses.params import param
from palate.losses.samples import Samples

_FAR = 30.0  # nats


def clip_param(default: float, side: str) -> Any:
    """ε of one side of the clipped ratio."""
    return param(default, f"ε {side}: how far the ratio π/π_old may move {side}.", above=0.0)


def cap_param() -> Any:
    """The bound of the truncated importance weights."""
    return param(
        2.0,
        "Largest weight π_old/π_sampler that corrects for a sampler whose log-probs are not the "
        "trainer's; 0: no correction.",
        at_least=0.0,
    )


def kl_param(default: float, where: str) -> Any:
    """The strength of the tie to the reference."""
    return param(
        default, f"Strength of the tie to the reference, {where}; 0: no reference.", at_least=0.0
    )


def ratio_of(log_ratio: Tensor) -> Tensor:
    """π/π_old from its logarithm, up to e^30; beyond there is no gradient.

    Without an end an answer that ran far away makes the loss infinite, or, where its advantage is
    0, no number at all.
    """
    return log_ratio.clamp(max=_FAR).exp()


def surrogate_N(ratio_N: Tensor, advantage_N: Tensor, low: float, high: float) -> Tensor:
    """−min(ρA, clip(ρ, 1 − low, 1 + high)·A) (Schulman et al. 2017, arXiv 1707.06347, eq. 7)."""
    clipped_N = ratio_N.clamp(1 - low, 1 + high)
    return -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)


def clip_share_N(ratio_N: Tensor, advantage_N: Tensor, low: float, high: float) -> Tensor:
    """1 where the clip holds the gradient back."""
    return (
        ((advantage_N > 0) & (ratio_N > 1 + high)) | ((advantage_N < 0) & (ratio_N < 1 - low))
    ).to(ratio_N)


def importance_N(batch: Samples, cap: float) -> Tensor:
    """min(π_old/π_sampler, cap) of each token, without gradient: 1 where the sampler agrees.

    Truncated importance sampling (Ionides 2008): bounded variance for a little bias.
    """
    if batch.sampler_N is None or cap == 0:
        return torch.ones_like(batch.old_N)
    return (batch.old_N - batch.sampler_N).exp().clamp(max=cap)


def k3_N(logp_N: Tensor, ref_N: Tensor) -> Tensor:
    """e^d − d − 1 with d = log π_ref − log π: ≥ 0, and on samples of π the mean is KL(π ‖ π_ref).

    (Schulman 2020, "Approximating KL divergence".) Only its value is unbiased: of the gradient,
    which flows through the sample's log-prob alone, the mean is that of KL(π_ref ‖ π). From
    d = 30 on it stays what it is, without a gradient.
    """
    d_N = (ref_N - logp_N).clamp(max=_FAR)
    return torch.expm1(d_N) - d_N


def summed_surrogate_B(batch: Samples, clip: float, cap: float) -> Tensor:
    """The clipped surrogate of whole answers: ρ = π(y)/π_old(y), A the answer's.

    At π = π_old its gradient is −A ∇log π(y): REINFORCE. What corrects for the sampler is the
    mean of the tokens' weights: their product would be at its cap for most long answers.
    """
    ratio_B = ratio_of(batch.sums_B(batch.logp_N - batch.old_N))
    weight_B = batch.means_B(importance_N(batch, cap))
    return weight_B * surrogate_N(ratio_B, batch.advantage_B, clip, clip)


def sample_metrics(batch: Samples) -> dict[str, Tensor]:
    """What every method on samples reports, per answer and without gradient.

    `kl` is Σ_t log π/π_ref of the answer, whose mean over samples of π is KL(π ‖ π_ref) in
    nats; `surprise` −log π a token, whose mean is the entropy; `moved` log π/π_old of the
    answer; `mismatch` the mean |log π_old − log π_sampler| of its tokens.
    """
    logp_N = batch.logp_N.detach()
    metrics = {
        "reward": batch.reward_B,
        "length": batch.length_B.to(logp_N),
        "advantage": batch.advantage_B,
        "surprise": -batch.means_B(logp_N),
        "moved": batch.sums_B(logp_N - batch.old_N),
    }
    if batch.ref_N is not None:
        metrics["kl"] = batch.sums_B(logp_N - batch.ref_N)
    if batch.sampler_N is not None:
        metrics["mismatch"] = batch.means_B((batch.old_N - batch.sampler_N).abs())
    return metrics
