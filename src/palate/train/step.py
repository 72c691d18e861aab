"""One optimizer step: forward, branch log-probs, loss, backward, over all micro-batches.

Sums are divided by the count of the whole optimizer step, so that the cut into
micro-batches never changes the result. A method that couples examples gets its step
statistic from a gradient-free pass over all micro-batches before the first backward.
With several ranks (`palate.train.parallel`) the step is what they all do together: the
count, the statistic, the metrics and the state are those of all of its examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from palate.losses.batch import Context, State, concatenate, detach, exchange, first
from palate.losses.method import Method
from palate.model.policy import Policy, accumulation_dtype
from palate.tokens.render import Rendered
from palate.tokens.tree import build_forest, to_device
from palate.train.parallel import ALONE, Ranks
from palate.train.retry import together
from palate.train.shapes import Batch, MicroBatch, ReferenceLookup, batch_of

T = TypeVar("T", Tensor, Batch)


@dataclass(frozen=True, slots=True)
class Packed:
    """Micro-batches and their reference; `statistic_over` where the step statistic is of others."""

    batches: Sequence[MicroBatch]
    reference: ReferenceLookup | None
    statistic_over: Packed | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """Of one step over all ranks: the loss that was minimised, each metric's values by example.

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
    fillers: int = 0,
) -> list[MicroBatch]:
    """Build the forests of a step from its cut into micro-batches.

    `step_rows` are the rows of all ranks, `cuts` those of this one. A filler is the step's
    shortest example once more: a real one, so that any loss can read it.
    """
    place_of = {row: place for place, row in enumerate(step_rows)}

    def micro(rows: Sequence[int], *, filler: bool = False) -> MicroBatch:
        branches = [branch for row in rows for branch in examples[row].branches]
        forest = build_forest(branches, share=share).to(device)
        places = tuple(place_of[row] for row in rows)
        thumbs = [examples[row].desirable for row in rows]
        desirable_B = None
        if None not in thumbs:
            desirable_B = to_device(torch.tensor(thumbs, dtype=torch.float32), device)
        columns, told_B = _came_with([examples[row] for row in rows], device)
        return MicroBatch(forest, tuple(rows), places, filler, desirable_B, columns, told_B)

    batches = [micro(rows) for rows in cuts]
    if fillers:
        shortest = min(step_rows, key=lambda row: sum(len(b.ids) for b in examples[row].branches))
        batches += [micro([shortest], filler=True)] * fillers
    return batches


def _came_with(
    examples: Sequence[Rendered], device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What samples came with: values by token [N] and by example [B]."""
    columns = {
        name: to_device(torch.cat([example.columns[name] for example in examples]), device)
        for name in examples[0].columns
    }
    told_B = {
        name: to_device(torch.tensor([e.told[name] for e in examples], dtype=torch.float32), device)
        for name in examples[0].told
    }
    return columns, told_B


def compute_step(
    policy: Policy,
    method: Method,
    params: Any,
    packed: Packed,
    state: State,
    *,
    backward: bool = True,
    ranks: Ranks = ALONE,
) -> StepResult:
    """Loss and metrics of a step; with `backward`, gradients are added to the weights.

    The gradients are this rank's part of the step's; `Ranks.add_gradients` makes them whole.
    Raises `FloatingPointError` on a loss that is not finite, naming the rows, on all ranks; of a
    training step on a GPU, which the host does not wait for, `palate.train.guard` does.
    """
    batches = packed.batches
    over = packed.statistic_over or packed
    context = _statistic(policy, method, params, over, state, ranks)
    own = [micro for micro in batches if not micro.filler]
    denominator = ranks.sum(_denominator(method, own))

    def compute() -> tuple[Tensor, list[Batch], list[dict[str, Tensor]]]:
        total = torch.zeros((), dtype=accumulation_dtype(policy.device), device=policy.device)
        seen: list[Batch] = []
        metrics: list[dict[str, Tensor]] = []
        for micro in batches:
            with torch.set_grad_enabled(backward):
                batch = batch_of(method, policy, micro, packed.reference)
                output = method.loss(batch, params, _of_micro(context, micro))
                loss = output.loss_B.sum() * (0 if micro.filler else 1) / denominator
            if backward:
                loss.backward()
            micro.forest.plans.clear()  # masks and the like, which no other micro-batch can use
            total += loss.detach()
            if method.advance is not None:
                seen.append(_counted(detach(batch), micro))
            values = {**output.metrics, "loss": output.loss_B}
            metrics.append({name: _counted(v.detach(), micro) for name, v in values.items()})
        return total, seen, metrics

    total, seen, metrics = together(compute, ranks)
    total = ranks.gather([total[None]])[0].sum()
    if not (backward and total.is_cuda) and not torch.isfinite(total):
        named = _not_finite(own, torch.cat([m["loss"] for m in metrics]), ranks)
        raise FloatingPointError(f"the loss is {total.item()} on examples {named}")
    if method.advance is not None:
        state = method.advance(_step_batch(seen, own, ranks), params, state)
    names = list(metrics[0])
    columns = ranks.gather([torch.cat([m[name] for m in metrics]) for name in names])
    return StepResult(
        loss=total,
        metrics=dict(zip(names, columns, strict=True)),
        state=state,
        examples=len(columns[0]),
        unique_tokens=ranks.sum(sum(micro.forest.unique_tokens for micro in own)),
        path_tokens=ranks.sum(sum(micro.forest.path_tokens for micro in own)),
    )


def _not_finite(own: Sequence[MicroBatch], loss_B: Tensor, ranks: Ranks) -> list[int]:
    """Rows of the step whose loss is not finite; all of its rows where only their sum is not."""
    rows = torch.tensor([row for micro in own for row in micro.rows], dtype=torch.int64)
    rows, loss_B = ranks.gather([rows, loss_B.cpu()])
    wrong = rows[~torch.isfinite(loss_B)]
    found: list[int] = (wrong if len(wrong) else rows).tolist()
    return found


def _statistic(
    policy: Policy,
    method: Method,
    params: Any,
    over: Packed,
    state: State,
    ranks: Ranks,
) -> Context:
    """The gradient-free pass, for methods that declare a step statistic."""
    if method.statistic is None:
        return Context(state=state)

    def look() -> list[Batch]:
        seen = []
        for micro in over.batches:
            seen.append(_counted(batch_of(method, policy, micro, over.reference), micro))
            micro.forest.plans.clear()
        return seen

    with torch.no_grad():
        seen = together(look, ranks)
        own = [micro for micro in over.batches if not micro.filler]
        found = method.statistic(_step_batch(seen, own, ranks), params, state)
    return Context(
        state=state,
        statistic={name: value.detach() for name, value in found.shared.items()},
        per_row={name: value.detach() for name, value in found.per_row.items()},
    )


def _step_batch(seen: list[Batch], own: Sequence[MicroBatch], ranks: Ranks) -> Batch:
    """All examples of the step, of all ranks, each at its place."""
    places = torch.tensor([place for micro in own for place in micro.places], dtype=torch.int64)
    mine = concatenate(seen, torch.arange(len(places)))
    return concatenate([exchange(mine, ranks.gather)], ranks.gather([places])[0])


def _counted(values: T, micro: MicroBatch) -> T:
    """The values by example, of which a filler has none."""
    return values if not micro.filler else first(values, 0)


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
