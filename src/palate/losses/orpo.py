"""Odds ratio preference optimization (Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import comparison
from palate.losses.params import param

# Mean log-probs are kept this far from 0, where an answer is certain and its odds infinite.
_CERTAIN = -1e-6


@dataclass(frozen=True, slots=True)
class ORPO:
    """Parameters of `orpo`."""

    odds: float = param(0.1, "λ: weight of the odds ratio beside the likelihood.", at_least=0.0)


def log_odds(mean_logp: Tensor) -> Tensor:
    """log(p/(1 − p)) of p = e^x; finite with a finite gradient for every x ≤ 0."""
    x = mean_logp.clamp(max=_CERTAIN)
    return x - torch.log(-torch.expm1(x))


def orpo(pairs: Pairs, params: ORPO, context: Context) -> LossOutput:
    """−ℓ̄_w + λ softplus(−[logit e^ℓ̄_w − logit e^ℓ̄_l]), ℓ̄ the mean log-prob of a token."""
    chosen, rejected = log_odds(pairs.chosen.mean_logp_B), log_odds(pairs.rejected.mean_logp_B)
    likelihood = -pairs.chosen.mean_logp_B
    loss_B = likelihood + params.odds * softplus(rejected - chosen)
    metrics = {
        **comparison(pairs, params.odds * chosen, params.odds * rejected),
        "nll": likelihood.detach(),
        "log_odds": (chosen - rejected).detach(),
    }
    return LossOutput(loss_B, metrics)


METHOD = Method(
    name="orpo",
    title="Odds ratio preference optimization",
    formula="−ℓ̄_w + λ softplus(−[logit e^ℓ̄_w − logit e^ℓ̄_l])",
    paper="Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7",
    shape="pair",
    params=ORPO,
    loss=orpo,
    reference=False,
    tokens="mean",
    when="One stage from a base model: imitation and preference together.",
    defaults="λ = 0.1 is the paper's.",
    peers="TRL's trainer takes the likelihood over prompt and answer in some versions, and is NaN "
    "at certain answers; here it is the answer's, and clamped at 1 − 10⁻⁶.",
)
