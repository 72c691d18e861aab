"""Self-Play Preference Optimization, its loss (Wu et al. 2024, arXiv 2405.00675)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class SPPO:
    """Parameters of `sppo`."""

    eta: float = param(
        10.0, "η: log-ratios are drawn to ±η(P − ½) nats, P the chosen's win rate.", above=0.0
    )
    win_rate: float = param(
        1.0, "P: probability that the chosen answer beats the rejected one.", above=0.5, at_most=1.0
    )


def sppo(pairs: Pairs, params: SPPO, context: Context) -> LossOutput:
    """(a − η(P − ½))² + (b + η(P − ½))²."""
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    target = params.eta * (params.win_rate - 0.5)
    return LossOutput((a - target) ** 2 + (b + target) ** 2, reward_metrics(pairs, 1 / params.eta))


METHOD = Method(
    name="sppo",
    title="Self-play preference optimization",
    formula="(a − η(P − ½))² + (b + η(P − ½))²",
    paper="Wu et al. 2024, arXiv 2405.00675, eq. 4.7",
    shape="pair",
    params=SPPO,
    loss=sppo,
    initial_loss=50.0,
    initial=lambda params: 2 * (params.eta * (params.win_rate - 0.5)) ** 2,
    when="Pairs of the model's own samples, with a clear winner.",
    defaults="η = 10 for summed log-ratios; the paper's 1e3 is for its own scaling of P.",
    peers="TRL's `sppo_hard` has P = 1 and β = 1/η inside the squares.",
)
