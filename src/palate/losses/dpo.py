"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290, eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param

LN2 = 0.6931471805599453


def beta_param(default: float = 0.1, note: str = "paper: 0.1 to 0.5") -> Any:
    """The parameter β of methods with a reference."""
    return param(default, f"Strength of the tie to the reference, in 1/nats ({note}).", above=0.0)


@dataclass(frozen=True, slots=True)
class DPO:
    """Parameters of `dpo`."""

    beta: float = beta_param()


def margin_B(pairs: Pairs) -> Tensor:
    """h = a − b: how much more the policy prefers the chosen answer than the reference does."""
    return pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B


def dpo(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """−log σ(β(a − b)), with a, b the chosen's and the rejected's summed log-ratios.

    Shapes: all [B]. At policy = reference the loss is ln 2 for every pair.
    """
    return LossOutput(
        loss_B=-logsigmoid(params.beta * margin_B(pairs)),
        metrics=reward_metrics(pairs, params.beta),
    )


METHOD = Method(
    name="dpo",
    title="Direct Preference Optimization",
    formula="−log σ(β(a − b))",
    paper="Rafailov et al. 2023, arXiv 2305.18290, eq. 7",
    shape="pair",
    params=DPO,
    loss=dpo,
    initial_loss=LN2,
    when="The first thing to try with preference pairs.",
    defaults="The paper's β for dialogue and summaries is 0.1 to 0.5.",
    peers="The same everywhere.",
)
