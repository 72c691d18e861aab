"""Our side: a method's loss on the material, as the step computes it, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palate.losses.batch import Context, Demonstrations, Labelled, Pairs, Side, detach
from palate.losses.method import Method
from palate.losses.registry import find

from .cases import Case
from .material import Answer, Material


@dataclass(frozen=True, slots=True)
class Found:
    """By group of pairs the mean loss; by answer (chosen, then rejected) the policy's gradient.

    The gradient is that of the sum of `losses` with respect to the answers' token log-probs;
    of reward models, whose tokens have none, with respect to the scores.
    """

    losses: list[float]
    gradients: list[list[float]]


def groups(size: int, pairs: int) -> list[range]:
    """The pairs that the other side sees at once; 0 is all."""
    size = size or pairs
    return [range(start, min(start + size, pairs)) for start in range(0, pairs, size)]


def labels(pairs: int) -> list[bool]:
    """Of an unpaired method: even places are the chosen answers, with a thumb up."""
    return [row % 2 == 0 for row in range(pairs)]


def compute(case: Case, material: Material) -> Found:
    """The loss of the case's method over all pairs as one step."""
    method, params = find(case.ours)
    sides = [_Leaves(material.chosen), _Leaves(material.rejected)]
    batch = _batch(method, sides)
    other = Labelled(_Leaves(material.mismatched).side(None), torch.ones(len(material.chosen)))
    context = _context(case, method, params, batch, other)
    loss_B = method.loss(batch, params, context).loss_B
    if method.normalise == "tokens":
        values = [
            _rows(loss_B, g).sum() / _rows(sides[0].length_B, g).sum() for g in _cut(case, loss_B)
        ]
    else:
        values = [_rows(loss_B, g).mean() for g in _cut(case, loss_B)]
    torch.stack(values).sum().backward()
    scalar = method.head == "scalar"
    return Found(
        losses=[value.item() for value in values],
        gradients=[row for side in sides for row in side.gradients(scalar)],
    )


def _cut(case: Case, loss_B: Tensor) -> list[range]:
    return groups(case.group, len(loss_B))


def _rows(values: Tensor, group: range) -> Tensor:
    return values[group.start : group.stop]


class _Leaves:
    """One side's numbers in float64; log-probs and scores take gradients."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        def tensors(name: str) -> list[Tensor]:
            return [torch.tensor(getattr(a, name), dtype=torch.float64) for a in answers]

        self.policy = [t.requires_grad_() for t in tensors("policy")]
        self.reference = tensors("reference")
        self.log_sum_p2 = tensors("log_sum_p2")
        self.scores = [t.requires_grad_() for t in tensors("score")]
        self.length_B = torch.tensor([len(a.policy) for a in answers])

    def side(self, common: list[int] | None) -> Side:
        """Sums over tokens; `common` is how many of them the sibling has too."""
        ratios = [p - r for p, r in zip(self.policy, self.reference, strict=True)]
        sums = {"log_sum_p2": torch.stack([t.sum() for t in self.log_sum_p2])}
        if common is not None:
            cut = [r[:n].sum() for r, n in zip(ratios, common, strict=True)]
            sums["common_ratio"] = torch.stack(cut)
        return Side(
            logp_B=torch.stack([p.sum() for p in self.policy]),
            ratio_B=torch.stack([r.sum() for r in ratios]),
            length_B=self.length_B,
            sums=sums,
            score_B=torch.stack(self.scores),
        )

    def gradients(self, scalar: bool) -> list[list[float]]:
        leaves = self.scores if scalar else self.policy
        grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
        return [grad.reshape(-1).tolist() for grad in grads]


def _batch(method: Method, sides: list[_Leaves]) -> Any:
    common = torch.minimum(sides[0].length_B, sides[1].length_B).tolist()
    chosen, rejected = (side.side(common) for side in sides)
    if method.shape == "pair":
        return Pairs(chosen, rejected)
    if method.shape == "demonstration":
        return Demonstrations(chosen)
    up = torch.tensor(labels(len(common)))

    def pick(w: Tensor, l: Tensor) -> Tensor:  # noqa: E741 the papers' letters
        return torch.where(up, w, l)

    assert chosen.ratio_B is not None
    assert rejected.ratio_B is not None
    mixed = Side(
        pick(chosen.logp_B, rejected.logp_B),
        pick(chosen.ratio_B, rejected.ratio_B),
        pick(chosen.length_B, rejected.length_B),
    )
    return Labelled(mixed, up.to(torch.float64))


def _context(case: Case, method: Method, params: Any, batch: Any, other: Labelled) -> Context:
    state = method.initial_state(params) if method.initial_state else {}
    if case.statistic:
        held = {k: torch.tensor(v, dtype=torch.float64) for k, v in case.statistic.items()}
        return Context(state=state, statistic=held)
    if method.statistic is None:
        return Context(state=state)
    found = method.statistic(detach(other if method.mismatched else batch), params, state)
    return Context(state=state, statistic=found.shared, per_row=found.per_row)
