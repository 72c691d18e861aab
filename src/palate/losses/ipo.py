"""Identity Preference Optimization (Azar et al. 2023, arXiv 2310.12036, eq. 17)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.method import Method
from palate.losses.metrics import comparison, reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class IPO:
    """Parameters of `ipo`."""

    tau: float = param(
        0.1,
        "Strength of the tie to the reference: margins are drawn to 1/(2τ) nats. Not portable "
        "between `sum` and `mean`.",
        above=0.0,
    )
    tokens: str = param(
        "sum",
        "Log-ratios as `sum` over the completion's tokens (the paper) or their `mean`.",
        choices=("sum", "mean"),
    )


def ipo(pairs: Pairs, params: IPO, context: Context) -> LossOutput:
    """(h − 1/(2τ))², with h = a − b of sums, or of means per token."""
    w, l = pairs.chosen, pairs.rejected  # noqa: E741 the papers' letters
    mean = params.tokens == "mean"
    a, b = (w.mean_ratio_B, l.mean_ratio_B) if mean else (w.log_ratio_B, l.log_ratio_B)
    metrics = {
        **reward_metrics(pairs, params.tau),
        **comparison(pairs, params.tau * a, params.tau * b),
    }
    return LossOutput((a - b - 1 / (2 * params.tau)) ** 2, metrics)


METHOD = Method(
    name="ipo",
    title="Identity Preference Optimization",
    formula="(a − b − 1/(2τ))²",
    paper="Azar et al. 2023, arXiv 2310.12036, eq. 17",
    shape="pair",
    params=IPO,
    loss=ipo,
    tokens="sum, or mean by `tokens`",
    initial_loss=25.0,
    initial=lambda params: (1 / (2 * params.tau)) ** 2,
    when="Labels that are nearly deterministic, where DPO's margins would grow without end.",
    defaults="τ = 0.1 as in the paper's experiments; `sum` is its definition.",
    peers="TRL (after asking the authors) and HALOs average over tokens (`tokens: mean`); the DPO "
    "authors' code and OpenRLHF sum. A τ tuned for one is wrong for the other.",
)
