"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import sigmoid

from palate.losses.batch import Context, Labelled, LossOutput, State
from palate.losses.dpo import beta_param
from palate.losses.method import Counts, Method, StepStatistic
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class KTO:
    """Parameters of `kto`."""

    beta: float = beta_param()
    desirable: float | None = param(
        None, "λ_D, weight of answers with a thumb up; default: from the data.", above=0.0
    )
    undesirable: float | None = param(
        None, "λ_U, weight of answers with a thumb down; default: from the data.", above=0.0
    )


# λ_D n_D / (λ_U n_U) should lie between 1 and this (§4.2 of the paper).
MOST = 4 / 3


def from_counts(params: KTO, counts: Counts) -> KTO:
    """Weights that put λ_D n_D / (λ_U n_U) into [1, 4/3], changing as little as possible.

    The rarer side is raised and the other keeps weight 1; a weight that the recipe sets stays.
    """
    up, down = params.desirable, params.undesirable
    if not counts.desirable or not counts.undesirable:
        return replace(params, desirable=up or 1.0, undesirable=down or 1.0)
    ratio = counts.desirable / counts.undesirable
    if up is None and down is None:
        up, down = max(1.0, 1 / ratio), max(1.0, ratio / MOST)
    elif up is None and down is not None:
        up = down * min(max(ratio / down, 1.0), MOST) / ratio
    elif down is None and up is not None:
        down = ratio * up / min(max(ratio * up, 1.0), MOST)
    return replace(params, desirable=up, undesirable=down)


def drift(mismatched: Labelled, params: KTO, state: State) -> StepStatistic:
    """z₀ = max(0, mean log-ratio of the step's prompts with other prompts' completions)."""
    mean = mismatched.completion.log_ratio_B.mean()
    return StepStatistic({"drift": mean.clamp(min=0)}, {})


def kto(batch: Labelled, params: KTO, context: Context) -> LossOutput:
    """λ_D(1 − σ(β(r − z₀))) for a thumb up, λ_U(1 − σ(β(z₀ − r))) for a thumb down.

    r is the completion's summed log-ratio, z₀ the step's drift, detached and in nats.
    """
    ratio, drift = batch.completion.log_ratio_B, context.statistic["drift"]
    up = batch.desirable_B > 0
    gain = torch.where(up, ratio - drift, drift - ratio)
    weight = torch.where(
        up,
        ratio.new_tensor(1.0 if params.desirable is None else params.desirable),
        ratio.new_tensor(1.0 if params.undesirable is None else params.undesirable),
    )
    gain_B = gain.detach()
    metrics = {
        "accuracy": (gain_B > 0).to(gain_B) + 0.5 * (gain_B == 0).to(gain_B),
        "margin": params.beta * gain_B,
        "reward": params.beta * ratio.detach(),
        # Means of these two, divided: the reward of the answers with a thumb up.
        "up": up.to(gain_B),
        "up_reward": params.beta * ratio.detach() * up,
        "drift": drift.expand_as(gain_B),
        "logp": batch.completion.logp_B.detach(),
    }
    return LossOutput(weight * sigmoid(-params.beta * gain), metrics)


METHOD = Method(
    name="kto",
    title="Kahneman-Tversky optimization",
    formula="λ_D(1 − σ(β(r − z₀))) up, λ_U(1 − σ(β(z₀ − r))) down",
    paper="Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7 and 8",
    shape="labelled",
    params=KTO,
    loss=kto,
    mismatched=True,
    statistic=drift,
    resolve=from_counts,
    initial_loss=0.5,
    initial=lambda params: 0.5 if (params.desirable, params.undesirable) == (1, 1) else None,
    when="Thumbs without comparisons: what a product's log has.",
    defaults="β = 0.1; λ from the counts, so that λ_D n_D / (λ_U n_U) lies in [1, 4/3].",
    peers="z₀ is estimated from completions of other prompts, drawn over the whole data set and "
    "averaged over the optimizer step; TRL shifts them by one within a micro-batch, so it depends "
    "on that size and on the order.",
)
