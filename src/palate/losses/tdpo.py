"""Token-level DPO (Zeng et al. 2024, arXiv 2404.11999)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import LN2, beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class TDPO1:
    """Parameters of `tdpo1`."""

    beta: float = beta_param()


@dataclass(frozen=True, slots=True)
class TDPO:
    """Parameters of `tdpo`."""

    beta: float = beta_param()
    alpha: float = param(0.5, "Weight of the difference of the answers' KL.", at_least=0.0)


def tdpo(pairs: Pairs, params: TDPO, context: Context) -> LossOutput:
    """−log σ(β[h − α(D_l − sg D_w)]), D = Σ_t KL(π_ref ‖ π) at the tokens of the answer.

    The stop-gradient on the chosen answer's KL is the paper's TDPO2.
    """
    chosen, rejected = pairs.chosen.sums["kl"].detach(), pairs.rejected.sums["kl"]
    return _loss(pairs, params.beta, params.alpha * (rejected - chosen))


def tdpo1(pairs: Pairs, params: TDPO1, context: Context) -> LossOutput:
    """−log σ(β[h − (D_l − D_w)])."""
    return _loss(pairs, params.beta, pairs.rejected.sums["kl"] - pairs.chosen.sums["kl"])


def _loss(pairs: Pairs, beta: float, drift: Tensor) -> LossOutput:
    loss_B = -logsigmoid(beta * (margin_B(pairs) - drift))
    kl = {f"{name}_kl": getattr(pairs, name).sums["kl"].detach() for name in ("chosen", "rejected")}
    return LossOutput(loss_B, {**reward_metrics(pairs, beta), **kl})


METHOD = Method(
    name="tdpo",
    title="Token-level DPO",
    formula="−log σ(β[h − α(D_l − sg D_w)]), D = Σ_t KL(π_ref ‖ π)",
    paper="Zeng et al. 2024, arXiv 2404.11999 (TDPO2)",
    shape="pair",
    params=TDPO,
    loss=tdpo,
    sums=("kl",),
    initial_loss=LN2,
    when="The policy drifts on rejected answers more than on chosen ones.",
    defaults="α = 0.5 and β = 0.1 are the paper's.",
    peers="Not in TRL. The KL is exact over the vocabulary, computed in chunks.",
)
FIRST = Method(
    name="tdpo1",
    title="Token-level DPO, first form",
    formula="−log σ(β[h − (D_l − D_w)])",
    paper="Zeng et al. 2024, arXiv 2404.11999 (TDPO1)",
    shape="pair",
    params=TDPO1,
    loss=tdpo1,
    sums=("kl",),
    initial_loss=LN2,
    when="To compare with `tdpo`, which the paper recommends.",
    defaults="β = 0.1 is the paper's.",
    peers="Not in TRL.",
)
