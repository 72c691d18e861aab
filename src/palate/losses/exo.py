"""Efficient exact optimization (Ji et al. 2024, arXiv 2402.00856), its form for pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import sigmoid
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class EXO:
    """Parameters of `exo`."""

    beta: float = beta_param()
    epsilon: float = param(
        1e-3,
        "Probability that the target gives to the rejected answer; at 0 the loss is infinite.",
        above=0.0,
        below=0.5,
    )


def exo(pairs: Pairs, params: EXO, context: Context) -> LossOutput:
    """KL((σ(z), σ(−z)) ‖ (1 − ε, ε)): the reverse KL, where DPO minimises the forward one."""
    z = params.beta * margin_B(pairs)
    keep, flip = math.log1p(-params.epsilon), math.log(params.epsilon)
    loss_B = sigmoid(z) * (logsigmoid(z) - keep) + sigmoid(-z) * (logsigmoid(-z) - flip)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


def _initial(params: EXO) -> float:
    """½(ln ½ − ln(1 − ε)) + ½(ln ½ − ln ε)."""
    return -math.log(2) - 0.5 * math.log((1 - params.epsilon) * params.epsilon)


METHOD = Method(
    name="exo",
    title="Efficient exact optimization",
    formula="KL((σ(z), σ(−z)) ‖ (1 − ε, ε))",
    paper="Ji et al. 2024, arXiv 2402.00856, eq. 16",
    shape="pair",
    params=EXO,
    loss=exo,
    initial_loss=_initial(EXO()),
    initial=_initial,
    when="The policy should settle on one good mode rather than cover all of them.",
    defaults="ε = 0.001 is the authors' code's.",
    peers="TRL's `exo_pair` takes ε from `label_smoothing`.",
)
