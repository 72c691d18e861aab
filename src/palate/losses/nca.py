"""Noise contrastive alignment (Chen et al. 2024, arXiv 2402.05369), its form for pairs."""

from __future__ import annotations

from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import DPO, LN2
from palate.losses.method import Method
from palate.losses.metrics import reward_metrics


def nca(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """−log σ(βa) − ½ log σ(−βa) − ½ log σ(−βb)."""
    a, b = params.beta * pairs.chosen.log_ratio_B, params.beta * pairs.rejected.log_ratio_B
    loss_B = -logsigmoid(a) - 0.5 * logsigmoid(-a) - 0.5 * logsigmoid(-b)
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


METHOD = Method(
    name="nca",
    title="Noise contrastive alignment",
    formula="−log σ(βa) − ½ log σ(−βa) − ½ log σ(−βb)",
    paper="Chen et al. 2024, arXiv 2402.05369",
    shape="pair",
    params=DPO,
    loss=nca,
    initial_loss=2 * LN2,
    when="The likelihood of chosen answers must not fall, as it can in DPO.",
    defaults="β = 0.1 as for DPO; the paper uses 0.01 with rewards.",
    peers="TRL's `nca_pair`, the same.",
)
