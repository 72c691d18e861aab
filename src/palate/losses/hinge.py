"""Hinge losses: the one of RSO's experiments, and SLiC-HF's calibration."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import relu

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import DPO, margin_B
from palate.losses.method import Method
from palate.losses.metrics import comparison, reward_metrics
from palate.losses.params import param


def hinge(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """max(0, 1 − β(a − b)): no push once the margin is 1."""
    return LossOutput(relu(1 - params.beta * margin_B(pairs)), reward_metrics(pairs, params.beta))


@dataclass(frozen=True, slots=True)
class SLiC:
    """Parameters of `slic`."""

    delta: float = param(1.0, "Margin of log-probs that is asked for, in nats.", above=0.0)
    nll: float = param(
        0.1, "λ: weight of the chosen answer's log-likelihood (summed).", at_least=0.0
    )


def slic(pairs: Pairs, params: SLiC, context: Context) -> LossOutput:
    """max(0, δ − log π(y_w) + log π(y_l)) − λ log π(y_w); sums, no reference.

    The paper regularises towards its SFT targets; the chosen answer stands for them here.
    """
    chosen, rejected = pairs.chosen.logp_B, pairs.rejected.logp_B
    loss_B = relu(params.delta - chosen + rejected) - params.nll * chosen
    return LossOutput(loss_B, comparison(pairs, chosen, rejected))


HINGE = Method(
    name="hinge",
    title="Hinge loss on DPO's margin",
    formula="max(0, 1 − β(a − b))",
    paper="Liu et al. 2023, arXiv 2309.06657 (RSO)",
    shape="pair",
    params=DPO,
    loss=hinge,
    initial_loss=1.0,
    when="Margins beyond 1 should not be paid for.",
    defaults="β = 0.1 as for DPO.",
    peers="The same in TRL; there it is called SLiC too, which has no reference.",
)
SLIC = Method(
    name="slic",
    title="Sequence likelihood calibration",
    formula="max(0, δ − log π(y_w) + log π(y_l)) − λ log π(y_w)",
    paper="Zhao et al. 2023, arXiv 2305.10425",
    shape="pair",
    params=SLiC,
    loss=slic,
    reference=False,
    when="No reference model is affordable and the chosen answers are good ones.",
    defaults="δ = 1, λ = 0.1.",
    peers="TRL's CPO trainer has the hinge with β inside it.",
)
