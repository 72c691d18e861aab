"""Self-Play Preference Optimization, its loss (Wu et al. 2024, arXiv 2405.00675)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method, Online
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class SPPO:
    """Parameters of `sppo`."""

    eta: float = param(
        10.0, "η: log-ratios are drawn to ±η(P − ½) nats, P the chosen's win rate.", above=0.0
    )
    win_rate: float = param(
        1.0,
        "P: probability that the chosen answer wins, where no judge says; the rejected one's is "
        "1 − P.",
        above=0.5,
        at_most=1.0,
    )


def sppo(pairs: Pairs, params: SPPO, context: Context) -> LossOutput:
    """(a − η(P_w − ½))² + (b − η(P_l − ½))², P the share of the policy's samples that it beats.

    The shares come with pairs that the policy sampled itself (`told`); of others P_w is the
    parameter and P_l = 1 − P_w.
    """
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    win_w = pairs.told.get("wins_chosen", params.win_rate)
    win_l = pairs.told.get("wins_rejected", 1 - params.win_rate)
    loss_B = (a - params.eta * (win_w - 0.5)) ** 2 + (b - params.eta * (win_l - 0.5)) ** 2
    return LossOutput(loss_B, reward_metrics(pairs, 1 / params.eta))


METHOD = Method(
    name="sppo",
    title="Self-play preference optimization",
    formula="(a − η(P_w − ½))² + (b − η(P_l − ½))²",
    paper="Wu et al. 2024, arXiv 2405.00675, eq. 4.7",
    shape="pair",
    params=SPPO,
    loss=sppo,
    online=Online(judge="preference", least=2, always=False),
    initial_loss=50.0,
    initial=lambda params: 2 * (params.eta * (params.win_rate - 0.5)) ** 2,
    when="Pairs of the model's own samples; with a rollout it draws them and has them judged.",
    defaults="η = 10 for summed log-ratios; the paper's 1e3 is for its own scaling of P.",
    peers="TRL's `sppo_hard` has P = 1 and β = 1/η inside the squares.",
)
