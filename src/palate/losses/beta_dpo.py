"""β-DPO: the step's own β, and a filter (Wu et al. 2024, arXiv 2407.08639)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.losses.batch import Context, LossOutput, Pairs, State
from palate.losses.dpo import LN2, beta_param, margin_B
from palate.losses.method import Method, StepStatistic
from palate.losses.metrics import reward_metrics
from palate.losses.params import param

SMALLEST_BETA = 1e-3


@dataclass(frozen=True, slots=True)
class BetaDPO:
    """Parameters of `beta-dpo`."""

    beta: float = beta_param()
    alpha: float = param(0.6, "How much β follows the step's mean margin, in 1/nats.", at_least=0.0)
    momentum: float = param(
        0.9, "Share of the past in the running mean and spread of h.", at_least=0.0, below=1.0
    )
    keep: float = param(
        0.8, "Share of the step's pairs that are trained on.", above=0.0, at_most=1.0
    )


def start(params: BetaDPO) -> State:
    """Running mean and standard deviation of h, in nats."""
    return {
        "mean": torch.zeros((), dtype=torch.float64),
        "spread": torch.ones((), dtype=torch.float64),
    }


def choose(pairs: Pairs, params: BetaDPO, state: State) -> StepStatistic:
    """The step's β, and which pairs it keeps.

    β = β₀[1 + α(mean h − M)], at least 0.001, with M the running mean. Kept is the share of
    pairs with the largest Gaussian weight exp(−½((h − M)/s)²), that is, those nearest to M; the
    rest has weight 0, and the kept ones 1/share, so that the step's mean is theirs.
    """
    h = margin_B(pairs)
    mean = state["mean"].to(h)
    beta = (params.beta * (1 + params.alpha * (h.mean() - mean))).clamp(min=SMALLEST_BETA)
    count = max(1, round(params.keep * len(h)))
    weight = torch.zeros_like(h)
    weight[gaussian(h, state).argsort(descending=True, stable=True)[:count]] = len(h) / count
    return StepStatistic({"beta": beta}, {"weight": weight})


def gaussian(h: Tensor, state: State) -> Tensor:
    """Log of the pairs' Gaussian weights: a far pair's weight itself would be 0 in any dtype."""
    mean, spread = state["mean"].to(h), state["spread"].to(h)
    return -0.5 * ((h - mean) / spread) ** 2


def follow(pairs: Pairs, params: BetaDPO, state: State) -> State:
    """Mean and spread of h after this step."""
    h = margin_B(pairs)
    past, now = params.momentum, 1 - params.momentum
    spread = h.std(correction=0).clamp(min=1e-6)
    return {
        "mean": past * state["mean"].to(h) + now * h.mean(),
        "spread": past * state["spread"].to(h) + now * spread,
    }


def beta_dpo(pairs: Pairs, params: BetaDPO, context: Context) -> LossOutput:
    """−w log σ(β h), with the step's β and weights w; both without gradient."""
    beta, weight = context.statistic["beta"], context.per_row["weight"]
    loss_B = -weight * logsigmoid(beta * margin_B(pairs))
    metrics = {
        **reward_metrics(pairs, beta),
        "beta": beta.expand_as(weight),
        "kept": (weight > 0).to(weight),
    }
    return LossOutput(loss_B, metrics)


METHOD = Method(
    name="beta-dpo",
    title="DPO with a dynamic β",
    formula="−log σ(β_step h), β_step = β[1 + α(mean h − M)], the pairs nearest to M",
    paper="Wu et al. 2024, arXiv 2407.08639",
    shape="pair",
    params=BetaDPO,
    loss=beta_dpo,
    statistic=choose,
    initial_state=start,
    advance=follow,
    initial_loss=LN2,
    when="The pairs differ much in how clear they are, or hold outliers.",
    defaults="α = 0.6, momentum 0.9, 80 % of the pairs are the paper's.",
    peers="The authors draw the kept pairs at random by their weights; here the nearest are kept, "
    "so that a run repeats itself. Their margins lack the reference in some versions.",
)
