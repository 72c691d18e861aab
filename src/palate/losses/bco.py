"""Binary classifier optimization (Jung et al. 2024, arXiv 2404.04656), on pairs."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs, State
from palate.losses.dpo import DPO, LN2
from palate.losses.method import Method, StepStatistic
from palate.losses.metrics import reward_metrics


def bco(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """−log σ(βa − δ) − log σ(−(βb − δ)), δ the running mean of all rewards so far."""
    a, b = params.beta * pairs.chosen.log_ratio_B, params.beta * pairs.rejected.log_ratio_B
    delta = context.statistic["delta"]
    loss_B = -logsigmoid(a - delta) - logsigmoid(delta - b)
    metrics = {**reward_metrics(pairs, params.beta), "delta": delta.expand_as(a)}
    return LossOutput(loss_B, metrics)


def start(params: DPO) -> State:
    """No reward has been seen."""
    return {
        "reward_sum": torch.zeros((), dtype=torch.float64),
        "reward_count": torch.zeros((), dtype=torch.float64),
    }


def count_rewards(pairs: Pairs, params: DPO, state: State) -> State:
    """The sum and the number of rewards, this step's included."""
    both = torch.cat([pairs.chosen.log_ratio_B, pairs.rejected.log_ratio_B]) * params.beta
    return {
        "reward_sum": state["reward_sum"].to(both) + both.sum(),
        "reward_count": state["reward_count"].to(both) + len(both),
    }


def mean_reward(pairs: Pairs, params: DPO, state: State) -> StepStatistic:
    """δ: the mean of the rewards of this step and all before it."""
    counted = count_rewards(pairs, params, state)
    return StepStatistic({"delta": counted["reward_sum"] / counted["reward_count"]}, {})


METHOD = Method(
    name="bco",
    title="Binary classifier optimization",
    formula="−log σ(βa − δ) − log σ(−(βb − δ)), δ the running mean reward",
    paper="Jung et al. 2024, arXiv 2404.04656",
    shape="pair",
    params=DPO,
    loss=bco,
    statistic=mean_reward,
    initial_state=start,
    advance=count_rewards,
    initial_loss=2 * LN2,
    when="Thumbs rather than comparisons are what is behind the pairs.",
    defaults="β = 0.1 as for DPO.",
    peers="TRL's `bco_pair` has no δ. The mean is over all steps so far, this one included.",
)
