"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, State
from palate.losses.credit import Credit, Scored, leave_one_out_B
from palate.losses.method import Method, Online
from palate.losses.policy_gradient import (
    cap_param,
    clip_param,
    kl_param,
    sample_metrics,
    summed_surrogate_B,
)
from palate.losses.samples import Samples


@dataclass(frozen=True, slots=True)
class RLOO:
    """Parameters of `rloo`."""

    beta: float = kl_param(0.05, "as −β log π/π_ref of the answer in the reward")
    clip: float = clip_param(0.2, "either way")
    importance_cap: float = cap_param()


def leave_one_out(scored: Scored, params: RLOO, state: State) -> Credit:
    """R_i less the mean of the others', R = r − β log π(y)/π_ref(y)."""
    total_B = scored.reward_B - params.beta * scored.sums_B(scored.ratio_N)
    return Credit(scored.spread(leave_one_out_B(total_B, scored.group_B)), state=state)


def rloo(batch: Samples, params: RLOO, context: Context) -> LossOutput:
    """−min(ρA, clip(ρ)A) of whole answers; at the first update its gradient is −A ∇log π(y)."""
    loss_B = summed_surrogate_B(batch, params.clip, params.importance_cap)
    return LossOutput(loss_B, sample_metrics(batch))


METHOD = Method(
    name="rloo",
    title="REINFORCE, leave-one-out",
    formula="−min(ρA, clip(ρ)A), A = R − mean of the others, R = r − β log π/π_ref",
    paper="Ahmadian et al. 2024, arXiv 2402.14740, eq. 7; Kool et al. 2019",
    shape="sample",
    params=RLOO,
    loss=rloo,
    credit=leave_one_out,
    reference_if=lambda params: params.beta > 0,
    online=Online(least=2),
    when="A reward model, and several samples a prompt: simpler than ppo and as good in the paper.",
    defaults="β = 0.05; the ratio matters only after a rollout's first update.",
    peers="TRL's RLOO has the same reward and clips the same ratio.",
)
