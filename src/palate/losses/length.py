"""DPO that minds length: by the mean, by a discount for the longer tail, by a penalty."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs, Side
from palate.losses.dpo import LN2, beta_param, margin_B
from palate.losses.method import Method
from palate.losses.metrics import comparison, reward_metrics
from palate.losses.params import param


@dataclass(frozen=True, slots=True)
class LNDPO:
    """Parameters of `ln-dpo`."""

    beta: float = param(
        5.0, "Strength of the tie to the reference, for means per token (not 0.1).", above=0.0
    )


def ln_dpo(pairs: Pairs, params: LNDPO, context: Context) -> LossOutput:
    """−log σ(β(a/L_w − b/L_l))."""
    chosen = params.beta * pairs.chosen.mean_ratio_B
    rejected = params.beta * pairs.rejected.mean_ratio_B
    metrics = {**reward_metrics(pairs, 1.0), **comparison(pairs, chosen, rejected)}
    return LossOutput(-logsigmoid(chosen - rejected), metrics)


@dataclass(frozen=True, slots=True)
class LDDPO:
    """Parameters of `ld-dpo`."""

    beta: float = beta_param()
    alpha: float = param(
        0.5,
        "Weight of the tokens past the shorter answer's length (1: dpo, 0: they do not count).",
        at_least=0.0,
        at_most=1.0,
    )


def ld_dpo(pairs: Pairs, params: LDDPO, context: Context) -> LossOutput:
    """DPO with tokens past min(L_w, L_l) weighted by α, in the policy and in the reference."""

    def discounted(side: Side) -> Tensor:
        common = side.sums["common_ratio"]
        return common + params.alpha * (side.log_ratio_B - common)

    a, b = discounted(pairs.chosen), discounted(pairs.rejected)
    metrics = {
        **reward_metrics(pairs, params.beta),
        **comparison(pairs, params.beta * a, params.beta * b),
    }
    return LossOutput(-logsigmoid(params.beta * (a - b)), metrics)


@dataclass(frozen=True, slots=True)
class LengthDPO:
    """Parameters of `length-dpo`."""

    beta: float = beta_param()
    alpha: float = param(0.01, "Margin that one more token of the chosen answer costs.")


def length_dpo(pairs: Pairs, params: LengthDPO, context: Context) -> LossOutput:
    """−log σ(z + α(L_w − L_l)): a longer chosen answer has part of its margin for nothing.

    What length explains, the policy need not: pairs whose chosen answer is longer are pushed
    less, those whose rejected answer is longer more.
    """
    longer = (pairs.chosen.length_B - pairs.rejected.length_B).to(pairs.chosen.logp_B)
    z = params.beta * margin_B(pairs) + params.alpha * longer
    return LossOutput(-logsigmoid(z), reward_metrics(pairs, params.beta))


LN_DPO = Method(
    name="ln-dpo",
    title="Length-normalised DPO",
    formula="−log σ(β(a/L_w − b/L_l))",
    paper="Lambert et al. 2024, arXiv 2411.15124 (Tülu 3)",
    shape="pair",
    params=LNDPO,
    loss=ln_dpo,
    tokens="mean",
    initial_loss=LN2,
    when="Answers grow longer in training than they should.",
    defaults="β = 5 is Tülu 3's.",
    peers="TRL's `sigmoid_norm`.",
)
LD_DPO = Method(
    name="ld-dpo",
    title="Length-desensitised DPO",
    formula="−log σ(β(a' − b')), tokens past min(L_w, L_l) weighted α",
    paper="Liu et al. 2024, arXiv 2409.06411",
    shape="pair",
    params=LDDPO,
    loss=ld_dpo,
    sums=("common_ratio",),
    initial_loss=LN2,
    when="Chosen answers are mostly the longer ones.",
    defaults="α = 0.5 lies in the paper's range of 0.3 to 0.7.",
    peers="TRL's `ld_alpha` weighs policy and reference as the paper does.",
)
LENGTH_DPO = Method(
    name="length-dpo",
    title="DPO with a length penalty (R-DPO)",
    formula="−log σ(β(a − b) + α(L_w − L_l))",
    paper="Park et al. 2024, arXiv 2403.19159",
    shape="pair",
    params=LengthDPO,
    loss=length_dpo,
    when="Chosen answers are mostly the longer ones and that should not be learnt.",
    defaults="α = 0.01 is the paper's middle one.",
    peers="Sign conventions differ: here a positive α gives longer chosen answers less push.",
)
