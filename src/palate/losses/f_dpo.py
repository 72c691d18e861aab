"""f-DPO: DPO tied to the reference by another divergence (Wang et al. 2023, arXiv 2309.16240)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, exp
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import LN2, beta_param
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param

DIVERGENCES = ("reverse-kl", "forward-kl", "js", "alpha")


@dataclass(frozen=True, slots=True)
class FDPO:
    """Parameters of `f-dpo`."""

    beta: float = beta_param()
    divergence: str = param(
        "js",
        "f-divergence of π from π_ref; `reverse-kl` is DPO.",
        choices=DIVERGENCES,
    )
    alpha: float = param(
        0.5,
        "Of `alpha`: f′(u) = (1 − u^−α)/α; towards 0 the reverse KL, 1 the forward KL.",
        above=0.0,
        below=1.0,
    )
    clamp: float = param(
        30.0, "Largest exponent in e^x, of `forward-kl` and `alpha`; no gradient beyond.", above=0.0
    )


def derivative(log_u: Tensor, params: FDPO) -> Tensor:
    """f′(u) as a function of log u, without constants that the difference takes away.

    reverse-kl: log u. forward-kl: −1/u. js: log(2u/(1 + u)). alpha: (1 − u^−α)/α.
    """
    if params.divergence == "reverse-kl":
        return log_u
    if params.divergence == "js":
        return math.log(2) + logsigmoid(log_u)
    power = 1.0 if params.divergence == "forward-kl" else params.alpha
    grown = exp((-power * log_u).clamp(max=params.clamp))
    return (1 - grown) / power


def f_dpo(pairs: Pairs, params: FDPO, context: Context) -> LossOutput:
    """−log σ(β[f′(u_w) − f′(u_l)]), u = π/π_ref of the whole answer."""
    chosen = params.beta * derivative(pairs.chosen.log_ratio_B, params)
    rejected = params.beta * derivative(pairs.rejected.log_ratio_B, params)
    return LossOutput(-logsigmoid(chosen - rejected), reward_metrics(pairs, params.beta))


METHOD = Method(
    name="f-dpo",
    title="DPO with another f-divergence",
    formula="−log σ(β[f′(u_w) − f′(u_l)]), u = π/π_ref",
    paper="Wang et al. 2023, arXiv 2309.16240, table 1",
    shape="pair",
    params=FDPO,
    loss=f_dpo,
    initial_loss=LN2,
    when="Answers should stay more diverse (`forward-kl`, `js`) than the reverse KL leaves them.",
    defaults="β = 0.1 as in the paper; `js` is its best trade-off. The clamp is ours.",
    peers="Conventions of α differ: TRL's `f_alpha_divergence_coef` is 1 − α. It clamps the "
    "exponent of `alpha` at 80 in fp32, and that of `forward_kl` not at all.",
)
