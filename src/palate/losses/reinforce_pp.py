"""REINFORCE++: no value model and no groups (Hu 2025, arXiv 2501.03262)."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, LossOutput, State
from palate.losses.credit import Credit, Scored, to_go_N, whitened
from palate.losses.method import Method, Online
from palate.losses.params import param
from palate.losses.policy_gradient import (
    cap_param,
    clip_param,
    clip_share_N,
    importance_N,
    kl_param,
    ratio_of,
    sample_metrics,
    surrogate_N,
)
from palate.losses.samples import Samples


@dataclass(frozen=True, slots=True)
class ReinforcePP:
    """Parameters of `reinforce++`."""

    clip_low: float = clip_param(0.2, "down")
    clip_high: float = clip_param(0.2, "up")
    beta: float = kl_param(0.01, "as −β log π/π_ref of each token in the reward")
    gamma: float = param(1.0, "γ, what a later reward is worth.", above=0.0, at_most=1.0)
    importance_cap: float = cap_param()


def globally_normalised(scored: Scored, params: ReinforcePP, state: State) -> Credit:
    """Rewards to go with the KL of each token in them, whitened over all tokens of the rollout."""
    rewards_N = scored.last_N * scored.spread(scored.reward_B) - params.beta * scored.ratio_N
    to_go = to_go_N(rewards_N, scored.length_B, params.gamma)
    return Credit(whitened(to_go), state=state)


def reinforce_pp(batch: Samples, params: ReinforcePP, context: Context) -> LossOutput:
    """Mean over each answer's tokens of the clipped surrogate."""
    ratio_N = ratio_of(batch.logp_N - batch.old_N)
    low, high = params.clip_low, params.clip_high
    term_N = surrogate_N(ratio_N, batch.advantage_N, low, high)
    term_N = importance_N(batch, params.importance_cap) * term_N
    clipped_N = clip_share_N(ratio_N.detach(), batch.advantage_N, low, high)
    metrics = {**sample_metrics(batch), "clipped": batch.means_B(clipped_N)}
    return LossOutput(batch.means_B(term_N), metrics)


METHOD = Method(
    name="reinforce++",
    title="REINFORCE++",
    formula="mean_t −min(ρA, clip(ρ)A), A = whitened Σ_{s≥t} (r_s − β log π/π_ref)",
    paper="Hu 2025, arXiv 2501.03262, the variant without a group baseline",
    shape="sample",
    params=ReinforcePP,
    loss=reinforce_pp,
    credit=globally_normalised,
    reference_if=lambda params: params.beta > 0,
    online=Online(),
    tokens="mean",
    when="One sample a prompt, many prompts: the baseline is the whole batch.",
    defaults="ε = 0.2, β = 0.01, γ = 1.",
    peers="OpenRLHF's, whose whitening is over the tokens of the rollout too.",
)
