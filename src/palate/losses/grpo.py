"""Group-relative policy optimization, and the variants that change one thing each.

Advantage of every token of answer i: (r_i − mean)/std over the answers to the same prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from palate.losses.batch import Context, LossOutput, State
from palate.losses.credit import Credit, Scored, group_means_B, group_stds_B
from palate.losses.method import Counts, Method, Online
from palate.losses.params import param
from palate.losses.policy_gradient import (
    cap_param,
    clip_param,
    clip_share_N,
    importance_N,
    k3_N,
    kl_param,
    ratio_of,
    sample_metrics,
    surrogate_N,
)
from palate.losses.samples import Samples

_STD_FLOOR = 1e-4


@dataclass(frozen=True, slots=True)
class GRPO:
    """Parameters of `grpo`."""

    clip_low: float = clip_param(0.2, "down")
    clip_high: float = clip_param(0.2, "up")
    beta: float = kl_param(0.04, "as β·k3 a token in the loss")
    importance_cap: float = cap_param()


@dataclass(frozen=True, slots=True)
class DAPO:
    """Parameters of `dapo`."""

    clip_low: float = clip_param(0.2, "down")
    clip_high: float = clip_param(0.28, "up")
    beta: float = kl_param(0.0, "as β·k3 a token in the loss")
    importance_cap: float = cap_param()


@dataclass(frozen=True, slots=True)
class DrGRPO:
    """Parameters of `dr-grpo`."""

    clip_low: float = clip_param(0.2, "down")
    clip_high: float = clip_param(0.2, "up")
    beta: float = kl_param(0.0, "as β·k3 a token in the loss")
    importance_cap: float = cap_param()
    longest: int | None = param(
        None,
        "Tokens that every answer's sum is divided by; default: rollout.max_new_tokens.",
        at_least=1,
    )


@dataclass(frozen=True, slots=True)
class GSPO:
    """Parameters of `gspo`."""

    clip_low: float = clip_param(3e-4, "down")
    clip_high: float = clip_param(4e-4, "up")
    beta: float = kl_param(0.0, "as β·k3 a token in the loss")
    importance_cap: float = cap_param()


def group_normalised(scored: Scored, params: object, state: State) -> Credit:
    """(r − mean)/std over the group, n − 1 in the std; 0 where all earned the same."""
    centred_B = scored.reward_B - group_means_B(scored.reward_B, scored.group_B)
    std_B = group_stds_B(scored.reward_B, scored.group_B)
    return Credit(scored.spread(centred_B / (std_B + _STD_FLOOR)), state=state)


def group_centred(scored: Scored, params: object, state: State) -> Credit:
    """r − mean over the group."""
    centred_B = scored.reward_B - group_means_B(scored.reward_B, scored.group_B)
    return Credit(scored.spread(centred_B), state=state)


def _token_terms(batch: Samples, params: GRPO | DAPO | DrGRPO) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate and the KL term of each token, [N], and the metrics."""
    ratio_N = ratio_of(batch.logp_N - batch.old_N)
    low, high = params.clip_low, params.clip_high
    term_N = surrogate_N(ratio_N, batch.advantage_N, low, high)
    term_N = importance_N(batch, params.importance_cap) * term_N
    if batch.ref_N is not None:
        term_N = term_N + params.beta * k3_N(batch.logp_N, batch.ref_N)
    clipped_N = clip_share_N(ratio_N.detach(), batch.advantage_N, low, high)
    return term_N, {**sample_metrics(batch), "clipped": batch.means_B(clipped_N)}


def grpo(batch: Samples, params: GRPO, context: Context) -> LossOutput:
    """Mean over each answer's tokens of the clipped surrogate + β·k3."""
    term_N, metrics = _token_terms(batch, params)
    return LossOutput(batch.means_B(term_N), metrics)


def dapo(batch: Samples, params: DAPO, context: Context) -> LossOutput:
    """Sum over each answer's tokens; the step divides by the tokens of all answers."""
    term_N, metrics = _token_terms(batch, params)
    return LossOutput(batch.sums_B(term_N), metrics)


def dr_grpo(batch: Samples, params: DrGRPO, context: Context) -> LossOutput:
    """Sum over each answer's tokens, divided by the same number for all."""
    assert params.longest is not None, "it is resolved when a run starts"
    term_N, metrics = _token_terms(batch, params)
    return LossOutput(batch.sums_B(term_N) / params.longest, metrics)


def gspo(batch: Samples, params: GSPO, context: Context) -> LossOutput:
    """The clipped surrogate of s = exp(mean_t log π/π_old), one ratio for an answer."""
    ratio_B = ratio_of(batch.means_B(batch.logp_N - batch.old_N))
    low, high = params.clip_low, params.clip_high
    advantage_B = batch.advantage_B
    loss_B = surrogate_N(ratio_B, advantage_B, low, high)
    loss_B = batch.means_B(importance_N(batch, params.importance_cap)) * loss_B
    if batch.ref_N is not None:
        loss_B = loss_B + params.beta * batch.means_B(k3_N(batch.logp_N, batch.ref_N))
    clipped_B = clip_share_N(ratio_B.detach(), advantage_B, low, high)
    return LossOutput(loss_B, {**sample_metrics(batch), "clipped": clipped_B})


def _longest(params: DrGRPO, counts: Counts) -> DrGRPO:
    return params if params.longest is not None else replace(params, longest=counts.longest)


_GROUPS = Online(least=2)

GRPO_METHOD = Method(
    name="grpo",
    title="Group-relative policy optimization",
    formula="mean_t [−min(ρA, clip(ρ)A) + β k3], A = (r − mean)/std over the group",
    paper="Shao et al. 2024, arXiv 2402.03300, eq. 3 and 4",
    shape="sample",
    params=GRPO,
    loss=grpo,
    credit=group_normalised,
    reference_if=lambda params: params.beta > 0,
    online=_GROUPS,
    tokens="mean",
    when="A reward that a program can check, and no value model to train.",
    defaults="ε = 0.2 and β = 0.04 as in the paper; std with n − 1.",
    peers="TRL and verl add the correction for a sampler's other log-probs as an option; here it "
    "is on, and 1 where the sampler is this process.",
)
DAPO_METHOD = Method(
    name="dapo",
    title="Decoupled clip and dynamic sampling",
    formula="Σ_t −min(ρA, clip(ρ, 1 − .2, 1 + .28)A) / tokens of the step, groups with spread only",
    paper="Yu et al. 2025, arXiv 2503.14476, eq. 8",
    shape="sample",
    params=DAPO,
    loss=dapo,
    credit=group_normalised,
    reference_if=lambda params: params.beta > 0,
    normalise="tokens",
    online=replace(_GROUPS, dynamic=True),
    when="grpo whose groups soon all earn the same, or whose entropy falls.",
    defaults="The paper's ε = 0.2 and 0.28, no KL.",
    peers="Dynamic sampling draws on until all groups have spread, as in the paper; TRL leaves it "
    "out. The paper's penalty for overlong answers is a matter of the judge: rollout."
    "unfinished_reward.",
)
DR_GRPO_METHOD = Method(
    name="dr-grpo",
    title="GRPO done right",
    formula="Σ_t −min(ρA, clip(ρ)A) / longest, A = r − mean over the group",
    paper="Liu et al. 2025, arXiv 2503.20783, §3.2",
    shape="sample",
    params=DrGRPO,
    loss=dr_grpo,
    credit=group_centred,
    reference_if=lambda params: params.beta > 0,
    resolve=_longest,
    online=_GROUPS,
    when="grpo whose wrong answers grow longer: no division by length or std.",
    defaults="ε = 0.2, no KL, divided by the longest answer that is sampled.",
    peers="The same in TRL (loss_type dr_grpo).",
)
GSPO_METHOD = Method(
    name="gspo",
    title="Group sequence policy optimization",
    formula="−min(sA, clip(s)A), s = exp(mean_t log π/π_old)",
    paper="Zheng et al. 2025, arXiv 2507.18071, eq. 5 and 7",
    shape="sample",
    params=GSPO,
    loss=gspo,
    credit=group_normalised,
    reference_if=lambda params: params.beta > 0,
    online=_GROUPS,
    tokens="mean",
    when="Several updates on the same samples, or a mixture-of-experts model.",
    defaults="The paper's ε = 3e-4 and 4e-4.",
    peers="The same in TRL (importance_sampling_level sequence).",
)
