"""Nash learning from human feedback, mirror descent (Munos et al. 2023, arXiv 2312.00886).

The paper's tabular algorithm mixes with weight ητ, which vanishes with the step size η; its policy
gradient, which this is, holds m fixed. It rests where π ∝ π_ref e^{P(· ≻ π_m)/τ}: there the mixture
π_m is the regularised equilibrium of strength τ/(1 − m), and π that of τ where m = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import State
from palate.losses.credit import Credit, Scored, leave_one_out_B
from palate.losses.method import Method, Online
from palate.losses.params import param
from palate.losses.policy_gradient import cap_param, clip_param
from palate.losses.rloo import rloo


@dataclass(frozen=True, slots=True)
class NashMD:
    """Parameters of `nash-md`."""

    beta: float = param(0.1, "τ, strength of the tie to the reference, in the reward.", above=0.0)
    mixture: float = param(
        0.25,
        "m: the opponent samples from π^(1−m)·π_ref^m.",
        at_least=0.0,
        at_most=1.0,
    )
    clip: float = clip_param(0.2, "either way")
    importance_cap: float = cap_param()


def preference_less_kl(scored: Scored, params: NashMD, state: State) -> Credit:
    """R = P(y ≻ y') − τ log π(y)/π_ref(y) of the whole answer, less its baseline.

    The log-ratio stands in the reward as a value: a per-token surrogate, log-ratio times the
    token's log-prob, would drop what a token does to the log-ratios that follow it. The baseline
    is the mean of the prompt's other answers, and ½ for one that is alone.
    """
    total_B = scored.reward_B - params.beta * scored.sums_B(scored.ratio_N)
    alone_B = scored.group_B.bincount()[scored.group_B] == 1
    advantage_B = leave_one_out_B(total_B, scored.group_B)
    return Credit(scored.spread(advantage_B.where(~alone_B, total_B - 0.5)), state=state)


METHOD = Method(
    name="nash-md",
    title="Nash mirror descent",
    formula="−min(ρA, clip(ρ)A), A of P(y ≻ y') − τ log π/π_ref, y' ~ π^(1−m) π_ref^m",
    paper="Munos et al. 2023, arXiv 2312.00886, §6 and 7",
    shape="sample",
    params=NashMD,
    loss=rloo,
    credit=preference_less_kl,
    online=Online(
        judge="preference", against="mixture", mixture=lambda params: float(params.mixture)
    ),
    when="A judge of pairs, and the last iterate should be an equilibrium tied to the reference.",
    defaults="τ = 0.1, m = 0.25: the mixture ends at the equilibrium of τ/(1 − m), and the policy "
    "at the best answer to it; with m = 0 it is the equilibrium of τ itself.",
    peers="TRL's NashMDTrainer has a model of the judge's score and m = 0.5.",
)
