"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290, eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class DPO:
    """Parameters of `dpo`."""

    beta: float = param(
        0.1, "Strength of the tie to the reference, in 1/nats (paper: 0.1 to 0.5).", above=0.0
    )


def dpo(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """−log σ(β(a − b)), with a, b the chosen's and the rejected's summed log-ratios.

    Shapes: all [B]. At policy = reference the loss is ln 2 for every pair.
    """
    a, b = pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B
    return LossOutput(
        loss_B=-logsigmoid(params.beta * (a - b)),
        metrics=reward_metrics(pairs, params.beta),
    )


def reward_metrics(pairs: Pairs, beta: float) -> dict[str, Tensor]:
    """What every paired method with a reference reports, per pair.

    Implicit rewards βa and βb (§4 of the paper, up to a prompt constant), their margin,
    whether the chosen one is ahead (½ for a tie), |h| = |a − b| in nats (0 at policy =
    reference, so what it is at the first step is rounding), and the summed log-probs.
    """
    a, b = pairs.chosen.log_ratio_B.detach(), pairs.rejected.log_ratio_B.detach()
    ahead = (a > b).to(a.dtype) + 0.5 * (a == b).to(a.dtype)
    return {
        "margin": beta * (a - b),
        "accuracy": ahead,
        "chosen_reward": beta * a,
        "rejected_reward": beta * b,
        "abs_h": (a - b).abs(),
        "chosen_logp": pairs.chosen.logp_B.detach(),
        "rejected_logp": pairs.rejected.logp_B.detach(),
    }
