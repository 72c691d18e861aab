"""DPO where a share ε of the labels is known to be wrong: cdpo and robust-dpo."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import LN2, beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """Parameters of `cdpo` and `robust-dpo`."""

    beta: float = beta_param()
    epsilon: float = param(
        0.1, "Share of the labels that are the wrong way round.", at_least=0.0, below=0.5
    )


def cdpo(pairs: Pairs, params: LabelNoise, context: Context) -> LossOutput:
    """−(1 − ε) log σ(z) − ε log σ(−z), z = β(a − b): cross-entropy with smoothed labels.

    Its minimum is where σ(z) = 1 − ε, so margins stop growing.
    """
    z, eps = params.beta * margin_B(pairs), params.epsilon
    loss_B = -(1 - eps) * logsigmoid(z) - eps * logsigmoid(-z)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


def robust_dpo(pairs: Pairs, params: LabelNoise, context: Context) -> LossOutput:
    """[−(1 − ε) log σ(z) + ε log σ(−z)] / (1 − 2ε).

    Its expectation over labels flipped with probability ε is DPO's loss on the true labels
    (Chowdhury et al. 2024). The loss itself can be negative.
    """
    z, eps = params.beta * margin_B(pairs), params.epsilon
    loss_B = (-(1 - eps) * logsigmoid(z) + eps * logsigmoid(-z)) / (1 - 2 * eps)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


CDPO = Method(
    name="cdpo",
    title="Conservative DPO",
    formula="−(1 − ε) log σ(z) − ε log σ(−z)",
    paper="Mitchell 2023, a note on DPO with noisy preferences",
    shape="pair",
    params=LabelNoise,
    loss=cdpo,
    initial_loss=LN2,
    when="Some labels are wrong and you would rather learn less than learn them.",
    defaults="ε = 0.1 is the note's example.",
    peers="Not in TRL: its `sigmoid` takes `label_smoothing` and ignores it (1.16), which is dpo.",
)
ROBUST_DPO = Method(
    name="robust-dpo",
    title="Provably robust DPO",
    formula="[−(1 − ε) log σ(z) + ε log σ(−z)] / (1 − 2ε)",
    paper="Chowdhury et al. 2024, arXiv 2403.00409",
    shape="pair",
    params=LabelNoise,
    loss=robust_dpo,
    initial_loss=LN2,
    when="You know the rate at which labels are flipped: the estimate is then unbiased.",
    defaults="ε = 0.1; measure your own rate by labelling some pairs twice.",
    peers="TRL divides by 1 − 2ε as the paper does. Leaving the divisor out scales the rate.",
)
