"""Batches from log-ratios, and a method's loss on a whole step, as the loop computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from palate.losses.batch import Context, Labelled, LossOutput, Pairs, Side, detach
from palate.losses.method import Method
from palate.losses.registry import find, lookup

Numbers = Sequence[float] | Tensor
REFERENCE = -50.0  # log π_ref of every answer, where a test does not say


def wide(values: Numbers) -> Tensor:
    """In float64, unless it is a tensor already."""
    if isinstance(values, Tensor):
        return values
    return torch.tensor(values, dtype=torch.float64)


def side(
    ratio: Numbers,
    *,
    logp: Numbers | None = None,
    length: Numbers | None = None,
    score: Numbers | None = None,
    **sums: Numbers,
) -> Side:
    """A side with these log-ratios; one token each and `REFERENCE` where nothing else is said."""
    ratio_B = wide(ratio)
    return Side(
        logp_B=ratio_B + REFERENCE if logp is None else wide(logp),
        ratio_B=ratio_B,
        length_B=torch.ones(len(ratio_B)) if length is None else wide(length),
        sums={name: wide(values) for name, values in sums.items()},
        score_B=None if score is None else wide(score),
    )


def likely(logp: Numbers, length: Numbers | None = None) -> Side:
    """A side with these summed log-probs, for methods without a reference."""
    logp_B = wide(logp)
    return Side(logp_B, None, torch.ones(len(logp_B)) if length is None else wide(length))


def paired(a: Numbers, b: Numbers) -> Pairs:
    """Pairs with log-ratios a of the chosen and b of the rejected answers, one token each."""
    return Pairs(side(a), side(b))


def context_of(
    method: Method, params: Any, batch: Any, mismatched: Labelled | None = None
) -> Context:
    """The context of a step that is this batch, from the method's first state."""
    state = method.initial_state(params) if method.initial_state else {}
    if method.statistic is None:
        return Context(state=state)
    seen = detach(mismatched if mismatched is not None else batch)
    found = method.statistic(seen, params, state)
    return Context(
        state=state,
        statistic={name: value.detach() for name, value in found.shared.items()},
        per_row={name: value.detach() for name, value in found.per_row.items()},
    )


def as_given(name: str, **given: Any) -> tuple[Method, Any]:
    """The method of that name as a recipe gets it, with a rollout where it needs one."""
    online = lookup(name).online
    return find({"name": name, **given}, sampled=online is not None and online.always)


def compute(name: str, batch: Any, mismatched: Labelled | None = None, **given: Any) -> LossOutput:
    """The loss of the method of that name, with these parameters, on a step that is this batch."""
    method, params = as_given(name, **given)
    return method.loss(batch, params, context_of(method, params, batch, mismatched))


def losses(name: str, a: Numbers, b: Numbers, **given: Any) -> list[float]:
    """The values by pair."""
    values: list[float] = compute(name, paired(a, b), **given).loss_B.tolist()
    return values


def gradients(output: LossOutput, *leaves: Tensor) -> list[list[float]]:
    """Of the summed loss, by leaf; 0 where the loss does not depend on it."""
    found: Sequence[Tensor | None] = torch.autograd.grad(
        output.loss_B.sum(), leaves, allow_unused=True
    )
    return [
        (torch.zeros_like(leaf) if grad is None else grad).tolist()
        for leaf, grad in zip(leaves, found, strict=True)
    ]


def leaf(values: Sequence[float]) -> Tensor:
    """In float64, with a gradient."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def softplus(x: float) -> float:
    """log(1 + e^x) = −log σ(−x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    """1/(1 + e^−x)."""
    return 1 / (1 + math.exp(-x))
