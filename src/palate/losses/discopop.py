"""DiscoPOP: log-ratio modulated loss, found by a program (Lu et al. 2024, arXiv 2406.08414)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import exp, sigmoid
from torch.nn.functional import logsigmoid, softplus

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class DiscoPOP:
    """Parameters of `discopop`."""

    beta: float = beta_param()
    temperature: float = param(
        0.05,
        "Width of the blend between the logistic and the exponential loss.",
        above=0.0,
        below=1.0,
    )


def discopop(pairs: Pairs, params: DiscoPOP, context: Context) -> LossOutput:
    """(1 − m) softplus(−z) + m e^{−z}, m = σ(z/τ).

    Its gradient at z = 0 points the wrong way, by design. The exponential is taken with its
    weight in log space: m e^{−z} = exp(log σ(z/τ) − z), finite for every z while τ < 1.
    """
    z = params.beta * margin_B(pairs)
    blend = z / params.temperature
    loss_B = sigmoid(-blend) * softplus(-z) + exp(logsigmoid(blend) - z)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


METHOD = Method(
    name="discopop",
    title="DiscoPOP (log-ratio modulated loss)",
    formula="(1 − m) softplus(−z) + m e^{−z}, m = σ(z/τ)",
    paper="Lu et al. 2024, arXiv 2406.08414, eq. 5",
    shape="pair",
    params=DiscoPOP,
    loss=discopop,
    initial_loss=0.8465735902799727,  # ½ ln 2 + ½
    when="A robust alternative to DPO in the paper's benchmarks; mind its shape at z = 0.",
    defaults="τ = 0.05 and β = 0.05 in the paper; β = 0.1 here as for DPO.",
    peers="TRL computes e^{−z} outside of log space, which is NaN where z is very negative.",
)
