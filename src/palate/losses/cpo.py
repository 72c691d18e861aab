"""Contrastive preference optimization and SimPO: DPO's comparison without a reference."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import comparison
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class CPO:
    """Parameters of `cpo`."""

    beta: float = param(0.1, "Scale of the difference of summed log-probs.", above=0.0)
    nll: float = param(
        1.0, "Weight of the chosen answer's mean negative log-likelihood.", at_least=0.0
    )


def cpo(pairs: Pairs, params: CPO, context: Context) -> LossOutput:
    """−log σ(β(Σ log π(y_w) − Σ log π(y_l))) − nll · log π(y_w)/L_w."""
    chosen, rejected = params.beta * pairs.chosen.logp_B, params.beta * pairs.rejected.logp_B
    loss_B = -logsigmoid(chosen - rejected) - params.nll * pairs.chosen.mean_logp_B
    return LossOutput(
        loss_B,
        {**comparison(pairs, chosen, rejected), "nll": -pairs.chosen.mean_logp_B.detach()},
    )


@dataclass(frozen=True, slots=True)
class SimPO:
    """Parameters of `simpo`."""

    beta: float = param(2.0, "Scale of the mean log-probs (paper: 2 to 10).", above=0.0)
    gamma_ratio: float = param(
        0.5,
        "γ/β: the margin that is asked for, in nats per token (paper: 0.3 to 1.6).",
        at_least=0.0,
    )


def simpo(pairs: Pairs, params: SimPO, context: Context) -> LossOutput:
    """−log σ(β(ℓ̄_w − ℓ̄_l) − γ), ℓ̄ the mean log-prob of a token."""
    chosen, rejected = (params.beta * side.mean_logp_B for side in (pairs.chosen, pairs.rejected))
    loss_B = -logsigmoid(chosen - rejected - params.beta * params.gamma_ratio)
    return LossOutput(loss_B, comparison(pairs, chosen, rejected))


METHOD = Method(
    name="cpo",
    title="Contrastive preference optimization",
    formula="−log σ(β(log π(y_w) − log π(y_l))) − λ log π(y_w)/L_w",
    paper="Xu et al. 2024, arXiv 2401.08417",
    shape="pair",
    params=CPO,
    loss=cpo,
    reference=False,
    when="Memory or time for a reference is short, and the chosen answers are good ones.",
    defaults="β = 0.1 and λ = 1 are the paper's.",
    peers="The paper's NLL is a sum over the answer's tokens in its formula, a mean in its code.",
)
SIMPO = Method(
    name="simpo",
    title="Simple preference optimization",
    formula="−log σ(β(ℓ̄_w − ℓ̄_l) − γ), ℓ̄ the mean log-prob of a token",
    paper="Meng et al. 2024, arXiv 2405.14734, eq. 6",
    shape="pair",
    params=SimPO,
    loss=simpo,
    reference=False,
    tokens="mean",
    when="No reference, and length must not pay. Sensitive to β, γ and the rate: sweep them.",
    defaults="β = 2 and γ/β = 0.5 are the authors' starting point.",
    peers="γ is given as γ/β here, as in the authors' code; other programs take γ itself.",
)
