"""Trust-region DPO, whose reference follows the policy (Gorbatovski 2024, arXiv 2404.09656)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.dpo import DPO, LN2, beta_param, dpo
from palate.losses.method import Method, Moving
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class TRDPO:
    """Parameters of `tr-dpo`."""

    beta: float = beta_param()
    alpha: float = param(
        0.6, "Share of the policy in the new reference; 1 replaces it.", above=0.0, at_most=1.0
    )
    tau: int = param(512, "Steps between two updates of the reference.", at_least=1)


def tr_dpo(pairs: Pairs, params: TRDPO, context: Context) -> LossOutput:
    """DPO's loss; every τ steps π_ref ← α π_θ + (1 − α) π_ref, in the weights."""
    return dpo(pairs, DPO(params.beta), context)


def moving(params: TRDPO) -> Moving:
    """How its reference follows the policy."""
    return Moving(share=params.alpha, every=int(params.tau))


METHOD = Method(
    name="tr-dpo",
    title="Trust-region DPO",
    formula="−log σ(β(a − b)), ref ← αθ + (1 − α)ref every τ steps",
    paper="Gorbatovski et al. 2024, arXiv 2404.09656",
    shape="pair",
    params=TRDPO,
    loss=tr_dpo,
    moving=moving,
    initial_loss=LN2,
    when="Long training, in which the policy should be free to leave its first reference.",
    defaults="α = 0.6 and τ = 512 are the paper's; shorter runs want a smaller τ.",
    peers="TRL's `sync_ref_model`, which mixes the weights of full models and not of adapters.",
)
