"""Calibrated DPO (Xiao et al. 2024, arXiv 2412.14516)."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import LN2, beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics


@dataclass(frozen=True, slots=True)
class CalDPO:
    """Parameters of `cal-dpo`."""

    beta: float = beta_param(1e-3, "paper: 0.001; rewards are drawn to ±1/(2β) nats")


def cal_dpo(pairs: Pairs, params: CalDPO, context: Context) -> LossOutput:
    """−log σ(a − b) + ½[(a − 1/(2β))² + (b + 1/(2β))²]; no β in the logistic term."""
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    target = 1 / (2 * params.beta)
    loss_B = -logsigmoid(margin_B(pairs)) + 0.5 * ((a - target) ** 2 + (b + target) ** 2)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


METHOD = Method(
    name="cal-dpo",
    title="Calibrated DPO",
    formula="−log σ(a − b) + ½[(a − 1/(2β))² + (b + 1/(2β))²]",
    paper="Xiao et al. 2024, arXiv 2412.14516",
    shape="pair",
    params=CalDPO,
    loss=cal_dpo,
    # both squares are (1/(2β))², 500² at β = 0.001
    initial_loss=LN2 + 500.0**2,
    initial=lambda params: LN2 + (1 / (2 * params.beta)) ** 2,
    when="The chosen answers' likelihood falls in DPO.",
    defaults="β = 0.001 is the paper's: the squares dominate, so lower the rate or raise β on "
    "short answers.",
    peers="Not in TRL.",
)
