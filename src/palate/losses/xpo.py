"""Exploratory preference optimization (Xie et al. 2024, arXiv 2405.21046, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import beta_param, margin_B
from palate.losses.method import Method, Online
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class XPO:
    """Parameters of `xpo`."""

    beta: float = beta_param()
    alpha: float = param(
        1e-5, "α: how much less likely the reference's answers are made, per nat.", at_least=0.0
    )


def xpo(pairs: Pairs, params: XPO, context: Context) -> LossOutput:
    """−log σ(β(a − b)) + α log π(y_ref), y_ref the answer that the reference sampled.

    `told["reference_chosen"]` is 1 where that is the chosen one.
    """
    from_reference = pairs.told["reference_chosen"] > 0
    reference_B = torch.where(from_reference, pairs.chosen.logp_B, pairs.rejected.logp_B)
    loss_B = -logsigmoid(params.beta * margin_B(pairs)) + params.alpha * reference_B
    metrics = {
        **reward_metrics(pairs, params.beta),
        "reference_logp": reference_B.detach(),
        "wins": 1 - pairs.told["reference_chosen"],
    }
    return LossOutput(loss_B, metrics)


METHOD = Method(
    name="xpo",
    title="Exploratory preference optimization",
    formula="−log σ(β(a − b)) + α log π(y_ref)",
    paper="Xie et al. 2024, arXiv 2405.21046, algorithm 1",
    shape="pair",
    params=XPO,
    loss=xpo,
    online=Online(against="reference"),
    when="online-dpo that should try what the reference would not say.",
    defaults="α = 1e-5 and β = 0.1, as in TRL; the paper's α falls with the number of rounds.",
    peers="The same in TRL.",
)
