"""Weighted preference optimization (Zhou et al. 2024, arXiv 2406.11827)."""

from __future__ import annotations

from torch import Tensor, exp
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs, Side
from palate.losses.dpo import DPO, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics


def weight_B(side: Side) -> Tensor:
    """exp(mean_t[log π(y_t) − log Σ_v π(v)²]), detached.

    The mean log-prob of a token that the policy draws itself is about log Σ_v π(v)², so answers
    as likely as the policy's own weigh about 1.
    """
    return exp((side.logp_B.detach() - side.sums["log_sum_p2"].detach()) / side.length_B)


def wpo(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """−w_w w_l log σ(β(a − b))."""
    weight = weight_B(pairs.chosen) * weight_B(pairs.rejected)
    loss_B = -weight * logsigmoid(params.beta * margin_B(pairs))
    return LossOutput(loss_B, {**reward_metrics(pairs, params.beta), "weight": weight})


METHOD = Method(
    name="wpo",
    title="Weighted preference optimization",
    formula="−w_w w_l log σ(β(a − b)), w = exp(mean_t[log π(y_t) − log Σ_v π(v)²])",
    paper="Zhou et al. 2024, arXiv 2406.11827, eq. 2",
    shape="pair",
    params=DPO,
    loss=wpo,
    sums=("log_sum_p2",),
    when="The pairs come from other models: those that the policy might write itself count more.",
    defaults="β = 0.1 as for DPO (the paper: 0.01 for larger models).",
    peers="TRL's `use_weighting`, the same.",
)
