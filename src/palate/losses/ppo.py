"""Proximal policy optimization with a value head: the RLHF that DPO replaced.

Ziegler et al. 2019 (arXiv 1909.08593) and Ouyang et al. 2022 (arXiv 2203.02155): the reward
arrives at the last token, every token pays β·log π/π_ref, GAE gives the advantages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palate.losses.batch import Context, LossOutput, State
from palate.losses.credit import Credit, Scored, gae_N, whitened
from palate.losses.method import Method, Online
from palate.losses.params import param
from palate.losses.policy_gradient import (
    cap_param,
    clip_param,
    clip_share_N,
    importance_N,
    ratio_of,
    sample_metrics,
    surrogate_N,
)
from palate.losses.samples import Samples

_ERROR_BOUND = 0.2


@dataclass(frozen=True, slots=True)
class PPO:
    """Parameters of `ppo`."""

    clip: float = clip_param(0.2, "either way")
    value_clip: float = param(
        0.2, "How far the value may move from what it was at the rollout.", above=0.0
    )
    value_weight: float = param(0.1, "Weight of the value head's squared error.", at_least=0.0)
    gamma: float = param(1.0, "γ, what a later reward is worth.", above=0.0, at_most=1.0)
    lam: float = param(
        0.95, "λ of GAE: 1 trusts rewards alone, 0 the values.", at_least=0.0, at_most=1.0
    )
    beta: float = param(
        0.05,
        "Strength of the tie to the reference, a token, in the reward; where it begins, "
        "if it adapts.",
        above=0.0,
    )
    target_kl: float = param(
        0.0, "KL of an answer, in nats, that β is steered to; 0: β is fixed.", at_least=0.0
    )
    horizon: int = param(
        10_000,
        "Answers after which an adaptive β has changed by about a fifth at most.",
        at_least=1,
    )
    importance_cap: float = cap_param()


def initial_state(params: PPO) -> State:
    """β as it begins."""
    return {"beta": torch.tensor(params.beta, dtype=torch.float64)}


def advantages(scored: Scored, params: PPO, state: State) -> Credit:
    """GAE over rewards with the KL of each token in them, whitened; and β for the next rollout."""
    assert scored.value_N is not None, "the method declared a value head"
    beta = state["beta"]
    rewards_N = scored.last_N * scored.spread(scored.reward_B) - beta * scored.ratio_N
    raw_N = gae_N(rewards_N, scored.value_N, scored.length_B, params.gamma, params.lam)
    kl = float(scored.sums_B(scored.ratio_N).mean())
    following = adapted(beta, kl, len(scored.reward_B), params)
    return Credit(
        advantage_N=whitened(raw_N),
        return_N=raw_N + scored.value_N,
        state={"beta": following},
        metrics={"beta": float(beta)},
    )


def adapted(beta: Tensor, kl: float, answers: int, params: PPO) -> Tensor:
    """β·(1 + clip(KL/target − 1, ±0.2)·answers/horizon).

    arXiv 1909.08593, §2.2, with the gain of its authors' code, answers/horizon.
    """
    if params.target_kl == 0:
        return beta
    error = min(max(kl / params.target_kl - 1, -_ERROR_BOUND), _ERROR_BOUND)
    return beta * (1 + error * answers / params.horizon)


def ppo(batch: Samples, params: PPO, context: Context) -> LossOutput:
    """Mean over tokens of the clipped surrogate + v·½ max((V − R)², (clip(V) − R)²)."""
    value_N, old_value_N, return_N = batch.value_N, batch.old_value_N, batch.return_N
    assert value_N is not None, "the method declared a value head"
    assert old_value_N is not None, "credit was given with values"
    assert return_N is not None, "credit gave returns"
    ratio_N = ratio_of(batch.logp_N - batch.old_N)
    policy_N = surrogate_N(ratio_N, batch.advantage_N, params.clip, params.clip)
    policy_N = importance_N(batch, params.importance_cap) * policy_N
    clipped_N = old_value_N + (value_N - old_value_N).clamp(-params.value_clip, params.value_clip)
    error_N = torch.maximum((value_N - return_N) ** 2, (clipped_N - return_N) ** 2) / 2
    held_N = clip_share_N(ratio_N.detach(), batch.advantage_N, params.clip, params.clip)
    metrics = {
        **sample_metrics(batch),
        "clipped": batch.means_B(held_N),
        "value": batch.means_B(value_N.detach()),
        "value_loss": batch.means_B(error_N.detach()),
    }
    return LossOutput(batch.means_B(policy_N + params.value_weight * error_N), metrics)


METHOD = Method(
    name="ppo",
    title="Proximal policy optimization",
    formula="mean_t [−min(ρA, clip(ρ)A) + v ½(V − R)²], A by GAE of r − β log π/π_ref",
    paper="Schulman et al. 2017, arXiv 1707.06347, eq. 7 and 9; Ziegler et al. 2019, arXiv "
    "1909.08593; Ouyang et al. 2022, arXiv 2203.02155",
    shape="sample",
    params=PPO,
    loss=ppo,
    credit=advantages,
    credit_state=initial_state,
    head="value",
    online=Online(updates=4),
    tokens="mean",
    when="The RLHF baseline: a reward model, one sample a prompt, a value for every token.",
    defaults="ε = 0.2, v = 0.1, γ = 1, λ = 0.95, 4 passes over each rollout; β fixed at 0.05.",
    peers="The value head stands on the policy's own body; TRL and OpenRLHF train a second model.",
)
