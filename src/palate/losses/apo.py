"""Anchored Preference Optimization (D'Oosterlinck et al. 2024, arXiv 2408.06266)."""

from __future__ import annotations

from torch import sigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import DPO
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics


def apo_zero(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """1 − σ(βa) + σ(βb): the chosen answer becomes likelier, the rejected one less so."""
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    loss_B = sigmoid(-params.beta * a) + sigmoid(params.beta * b)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


def apo_down(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """σ(βa) + 1 − σ(β(a − b)): both become less likely, the rejected one more so."""
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    loss_B = sigmoid(params.beta * a) + sigmoid(-params.beta * (a - b))
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


ZERO = Method(
    name="apo-zero",
    title="Anchored preference optimization, chosen up",
    formula="1 − σ(βa) + σ(βb)",
    paper="D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7",
    shape="pair",
    params=DPO,
    loss=apo_zero,
    initial_loss=1.0,
    when="The chosen answers are better than what the model writes today.",
    defaults="β = 0.1 as in the paper.",
    peers="The same in TRL, which adds an unpaired form to its KTO trainer.",
)
DOWN = Method(
    name="apo-down",
    title="Anchored preference optimization, chosen down",
    formula="σ(βa) + 1 − σ(β(a − b))",
    paper="D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 8",
    shape="pair",
    params=DPO,
    loss=apo_down,
    initial_loss=1.0,
    when="The model writes better than the chosen answers already.",
    defaults="β = 0.1 as in the paper.",
    peers="The same in TRL.",
)
