"""One optimizer step: forward, branch log-probs, loss, backward, over all micro-batches.

Sums are divided by the count of the whole optimizer step, so that the cut into
micro-batches never changes the result. A method that couples examples gets its step
statistic from a gradient-free pass over all micro-batches before the first backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palate.losses.batch import (
    Context,
    Demonstrations,
    Pairs,
    Side,
    State,
    concatenate,
    detach,
)
from palate.losses.registry import Method
from palate.model.policy import BranchLogps, Policy, accumulation_dtype
from palate.tokens.render import Rendered
from palate.tokens.tree import Forest, build_forest

Batch = Pairs | Demonstrations
# log π_ref of every supervised token of a micro-batch, in the forest's order
ReferenceLookup = Callable[["MicroBatch"], Tensor]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some examples of a step, packed.

    `rows` are indices into the data, `places` the examples' places in the step.
    """

    forest: Forest
    rows: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """Of one step: the loss that was minimised, and each metric's values by example.

    `metrics` are detached tensors on the device, unreduced: reading them is the caller's
    choice, because reading waits for the device.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    state: State
    examples: int
    unique_tokens: int
    path_tokens: int


def pack(
    examples: Sequence[Rendered],
    step_rows: Sequence[int],
    cuts: Sequence[Sequence[int]],
    *,
    share: bool,
    device: torch.device,
) -> list[MicroBatch]:
    """Build the forests of a step from its cut into micro-batches."""
    place_of = {row: place for place, row in enumerate(step_rows)}
    return [
        MicroBatch(
            forest=build_forest(
                [branch for row in cut for branch in examples[row].branches], share=share
            ).to(device),
            rows=tuple(cut),
            places=tuple(place_of[row] for row in cut),
        )
        for cut in cuts
    ]


def compute_step(
    policy: Policy,
    method: Method,
    params: Any,
    batches: Sequence[MicroBatch],
    reference: ReferenceLookup | None,
    state: State,
    *,
    backward: bool = True,
) -> StepResult:
    """Loss and metrics of a step; with `backward`, gradients are added to the weights.

    Raises `FloatingPointError` on a loss that is not finite, naming the rows; of a training step
    on a GPU, which the host does not wait for, `palate.train.guard` does.
    """
    context = _statistic(policy, method, params, batches, reference, state)
    denominator = _denominator(method, batches)
    total = torch.zeros((), dtype=accumulation_dtype(policy.device), device=policy.device)
    seen: list[Batch] = []
    metrics: list[dict[str, Tensor]] = []
    for micro in batches:
        with torch.set_grad_enabled(backward):
            batch = _batch(method, policy(micro.forest), micro, reference)
            output = method.loss(batch, params, _of_micro(context, micro))
            loss = output.loss_B.sum() / denominator
        if backward:
            loss.backward()
        total += loss.detach()
        seen.append(detach(batch))
        metrics.append({**output.metrics, "loss": output.loss_B.detach()})
    if not (backward and total.is_cuda) and not torch.isfinite(total):
        rows = [row for micro in batches for row in micro.rows]
        raise FloatingPointError(f"the loss is {total.item()} on examples {rows}")
    order = torch.tensor([place for micro in batches for place in micro.places])
    if method.advance is not None:
        state = method.advance(concatenate(seen, order), params, state)
    return StepResult(
        loss=total,
        metrics={name: torch.cat([m[name] for m in metrics]) for name in metrics[0]},
        state=state,
        examples=len(order),
        unique_tokens=sum(micro.forest.unique_tokens for micro in batches),
        path_tokens=sum(micro.forest.path_tokens for micro in batches),
    )


def _statistic(
    policy: Policy,
    method: Method,
    params: Any,
    batches: Sequence[MicroBatch],
    reference: ReferenceLookup | None,
    state: State,
) -> Context:
    """The gradient-free pass, for methods that declare a step statistic."""
    if method.statistic is None:
        return Context(state=state)
    with torch.no_grad():
        seen = [_batch(method, policy(micro.forest), micro, reference) for micro in batches]
        order = torch.tensor([place for micro in batches for place in micro.places])
        found = method.statistic(concatenate(seen, order), params, state)
    return Context(
        state=state,
        statistic={name: value.detach() for name, value in found.shared.items()},
        per_row={name: value.detach() for name, value in found.per_row.items()},
    )


def _of_micro(context: Context, micro: MicroBatch) -> Context:
    """The context with per-row statistics cut to the micro-batch's examples."""
    if not context.per_row:
        return context
    places = torch.tensor(micro.places)
    cut = {name: value[places.to(value.device)] for name, value in context.per_row.items()}
    return Context(state=context.state, statistic=context.statistic, per_row=cut)


def _denominator(method: Method, batches: Sequence[MicroBatch]) -> int:
    if method.normalise == "tokens":
        return sum(int(micro.forest.predictions_N.shape[0]) for micro in batches)
    return sum(len(micro.rows) for micro in batches)


def _batch(
    method: Method, out: BranchLogps, micro: MicroBatch, reference: ReferenceLookup | None
) -> Batch:
    """Branch log-probs as the data shape that the method reads."""
    logp_B, length_B = out.sums_B(), out.counts_B()
    ratio_B = None
    if method.reference:
        assert reference is not None, "the method declared a reference"
        wide = out.token_logps_N.to(logp_B.dtype) - reference(micro).to(logp_B)
        ratio_B = out.sums_B(wide)

    def side(offset: int, stride: int) -> Side:
        ratio = None if ratio_B is None else ratio_B[offset::stride]
        return Side(logp_B[offset::stride], ratio, length_B[offset::stride])

    if method.shape == "pair":
        return Pairs(chosen=side(0, 2), rejected=side(1, 2))
    return Demonstrations(completion=side(0, 1))
