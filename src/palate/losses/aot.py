"""Alignment via optimal transport (Melnyk et al. 2024, arXiv 2406.05882).

Quantities are sorted over the whole optimizer step and compared rank by rank, so the distribution
of one is pushed above that of the other. Sorting is a step statistic: what stands at an example's
rank on the other side comes from there as a constant, and the gradient is that of the whole step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs, State
from palate.losses.dpo import LN2, beta_param
from palate.losses.method import Method, StepStatistic
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class AOT:
    """Parameters of `aot` and `aot-unpaired`."""

    beta: float = beta_param()
    epsilon: float = param(
        0.0,
        "Label smoothing, as in cdpo: share of the labels that are wrong.",
        at_least=0.0,
        below=0.5,
    )


def _smoothed(z: Tensor, epsilon: float) -> Tensor:
    return -(1 - epsilon) * logsigmoid(z) - epsilon * logsigmoid(-z)


def _at_rank_of(values_B: Tensor, others_B: Tensor) -> Tensor:
    """For each value the element of `others_B` that has the same rank."""
    partners_B = torch.empty_like(others_B)
    partners_B[values_B.argsort(stable=True)] = others_B.sort().values
    return partners_B


def _margins(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """log π(y_w) − log π(y_l) of the policy and of the reference."""
    w, l = pairs.chosen, pairs.rejected  # noqa: E741 the papers' letters
    policy = w.logp_B - l.logp_B
    return policy, policy - (w.log_ratio_B - l.log_ratio_B)


def sort_margins(pairs: Pairs, params: AOT, state: State) -> StepStatistic:
    """The reference's margin at the rank of each pair's policy margin."""
    policy, reference = _margins(pairs)
    return StepStatistic({}, {"reference_margin": _at_rank_of(policy, reference)})


def aot(pairs: Pairs, params: AOT, context: Context) -> LossOutput:
    """−log σ(β(u_(k) − v_(k))), u and v the sorted margins of policy and reference."""
    policy, _ = _margins(pairs)
    z = params.beta * (policy - context.per_row["reference_margin"])
    return LossOutput(_smoothed(z, params.epsilon), reward_metrics(pairs, params.beta))


def sort_ratios(pairs: Pairs, params: AOT, state: State) -> StepStatistic:
    """The other side's log-ratio at the rank of each answer's."""
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    return StepStatistic(
        {}, {"rejected_at_rank": _at_rank_of(a, b), "chosen_at_rank": _at_rank_of(b, a)}
    )


def aot_unpaired(pairs: Pairs, params: AOT, context: Context) -> LossOutput:
    """−log σ(β(a_(k) − b_(k))), a and b the sorted log-ratios of chosen and rejected answers.

    The value of an example is that of its chosen answer's rank; its rejected answer has another
    rank, and enters by its gradient alone, so that sums over the step are exact.
    """
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    chosen = _smoothed(params.beta * (a - context.per_row["rejected_at_rank"]), params.epsilon)
    rejected = _smoothed(params.beta * (context.per_row["chosen_at_rank"] - b), params.epsilon)
    loss_B = chosen + (rejected - rejected.detach())
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


METHOD = Method(
    name="aot",
    title="Alignment via optimal transport, paired",
    formula="−log σ(β(u_(k) − v_(k))), u and v sorted margins of policy and reference",
    paper="Melnyk et al. 2024, arXiv 2406.05882",
    shape="pair",
    params=AOT,
    loss=aot,
    statistic=sort_margins,
    initial_loss=LN2,
    when="The distribution of margins should rise as a whole; large steps (32 pairs or more).",
    defaults="β = 0.1 as for DPO; no smoothing.",
    peers="TRL sorts within the micro-batch of one device, so its result depends on that size; "
    "here it is the whole optimizer step.",
)
UNPAIRED = Method(
    name="aot-unpaired",
    title="Alignment via optimal transport, unpaired",
    formula="−log σ(β(a_(k) − b_(k))), a and b sorted log-ratios",
    paper="Melnyk et al. 2024, arXiv 2406.05882",
    shape="pair",
    params=AOT,
    loss=aot_unpaired,
    statistic=sort_ratios,
    initial_loss=LN2,
    when="Good answers as a whole should beat bad ones, whichever prompt they belong to.",
    defaults="β = 0.1 as for DPO; no smoothing.",
    peers="TRL sorts within the micro-batch of one device; here it is the whole optimizer step.",
)
