"""The chosen answer's likelihood: alone, to add to another loss, and joined with DPO."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import comparison, reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class NLL:
    """Parameters of `nll`: none."""


def nll(pairs: Pairs, params: NLL, context: Context) -> LossOutput:
    """−log π(y_w) / L_w: by example, so that a long answer weighs no more than a short one."""
    chosen, rejected = pairs.chosen, pairs.rejected
    return LossOutput(
        -chosen.mean_logp_B, comparison(pairs, chosen.mean_logp_B, rejected.mean_logp_B)
    )


@dataclass(frozen=True, slots=True)
class DPOWithNLL:
    """Parameters of `dpo-nll`."""

    beta: float = beta_param()
    alpha: float = param(
        1.0, "Weight of the chosen answer's mean negative log-likelihood.", at_least=0.0
    )


def dpo_nll(pairs: Pairs, params: DPOWithNLL, context: Context) -> LossOutput:
    """−log σ(β(a − b)) − α log π(y_w) / L_w."""
    loss_B = -logsigmoid(params.beta * margin_B(pairs)) - params.alpha * pairs.chosen.mean_logp_B
    return LossOutput(
        loss_B, {**reward_metrics(pairs, params.beta), "nll": -pairs.chosen.mean_logp_B.detach()}
    )


METHOD = Method(
    name="nll",
    title="Likelihood of the chosen answers",
    formula="−log π(y_w) / L_w",
    paper="maximum likelihood; a term of others (arXiv 2404.19733, eq. 1)",
    shape="pair",
    params=NLL,
    loss=nll,
    reference=False,
    tokens="mean",
    when="A term of a sum, such as `method: [{name: dpo}, {name: nll, weight: 0.2}]`.",
    defaults="None.",
    peers="Some divide by the tokens of the batch, where long answers weigh more.",
)
DPO_NLL = Method(
    name="dpo-nll",
    title="DPO with the chosen answer's likelihood",
    formula="−log σ(β(a − b)) − α log π(y_w) / L_w",
    paper="Pang et al. 2024, arXiv 2404.19733, eq. 1 (iterative reasoning preference optimization)",
    shape="pair",
    params=DPOWithNLL,
    loss=dpo_nll,
    when="The chosen answers' likelihood falls in DPO and the samples get worse.",
    defaults="α = 1 and β = 0.1 are the paper's.",
    peers="TRL's `loss_type: [sigmoid, sft]` averages over the tokens of the micro-batch; the "
    "paper and we by answer.",
)
