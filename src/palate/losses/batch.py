"""What a loss looks at: sums and counts of token log-probs, by data shape.

Shapes: B examples. Sums are float64 (fp32 where the device has none), taken over
the completion's supervised tokens, end-of-turn included, prompt never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from palate.losses.samples import Samples

State = dict[str, Tensor]
T = TypeVar("T", bound="Tensor | Side | Pairs | Labelled | Demonstrations | Samples")


@dataclass(frozen=True, slots=True)
class Side:
    """One completion of each example.

    - `logp_B`: Σ_t log π(y_t); 0 for methods with a scalar head.
    - `ratio_B`: Σ_t [log π(y_t) − log π_ref(y_t)], summed from per-token differences; None
      for methods without a reference.
    - `length_B`: supervised tokens.
    - `sums`: what else the method asked for (`palate.losses.method.Sum`), a sum over the
      completion's tokens each, [B].
    - `score_B`: what a scalar head says at the last token, for reward models.
    """

    logp_B: Tensor
    ratio_B: Tensor | None
    length_B: Tensor
    sums: dict[str, Tensor] = field(default_factory=dict)
    score_B: Tensor | None = None

    @property
    def mean_logp_B(self) -> Tensor:
        """Mean log-prob per token."""
        return self.logp_B / self.length_B

    @property
    def log_ratio_B(self) -> Tensor:
        """`ratio_B`, for methods that declared a reference."""
        assert self.ratio_B is not None, "the method declared that it needs no reference"
        return self.ratio_B

    @property
    def mean_ratio_B(self) -> Tensor:
        """Mean log-ratio per token."""
        return self.log_ratio_B / self.length_B

    @property
    def reward_B(self) -> Tensor:
        """`score_B`, for methods that declared a scalar head."""
        assert self.score_B is not None, "the method declared no scalar head"
        return self.score_B


@dataclass(frozen=True, slots=True)
class Pairs:
    """Chosen (w) and rejected (l) completions of the same prompts.

    `told`: what came with each pair besides, [B], such as the judge's win rates.
    """

    chosen: Side
    rejected: Side
    told: dict[str, Tensor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of pairs."""
        return int(self.chosen.length_B.shape[0])


@dataclass(frozen=True, slots=True)
class Labelled:
    """One completion of each prompt, with a thumb: `desirable_B` is 1 for up and 0 for down."""

    completion: Side
    desirable_B: Tensor

    @property
    def size(self) -> int:
        """Number of completions."""
        return int(self.desirable_B.shape[0])


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """One completion to imitate for each prompt."""

    completion: Side

    @property
    def size(self) -> int:
        """Number of demonstrations."""
        return int(self.completion.logp_B.shape[0])


@dataclass(frozen=True, slots=True)
class Context:
    """What a loss may know beyond its own examples.

    - `state`: the method's own state (an EMA, a running mean), a value that enters a step
      and leaves it changed.
    - `statistic`: values of the whole optimizer step, computed without gradient over all
      micro-batches before the first backward. Tensors named in `per_row` hold one value for
      each example of the step; the step cuts them to the micro-batch at hand.
    """

    state: State = field(default_factory=dict)
    statistic: dict[str, Tensor] = field(default_factory=dict)
    per_row: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LossOutput:
    """Unreduced: `loss_B` per example, and named per-example metrics (no gradient needed)."""

    loss_B: Tensor
    metrics: dict[str, Tensor]


def detach(batch: T) -> T:
    """The same batch without gradients."""
    cut: T = _map(batch, Tensor.detach)
    return cut


def first(batch: T, count: int) -> T:
    """Its first examples."""
    cut: T = _map(batch, lambda values: values[:count])
    return cut


def exchange(batch: T, gather: Callable[[list[Tensor]], list[Tensor]]) -> T:
    """The batch with each of its tensors replaced by what `gather` makes of them all at once."""
    columns: list[Tensor] = []
    _map(batch, columns.append)
    found = iter(gather(columns))
    gathered: T = _map(batch, lambda _: next(found))
    return gathered


def concatenate(batches: list[T], order: Tensor) -> T:
    """Batches of micro-batches as one batch of the step, example i at place i of the step.

    `order[k]` is the step's place of the k-th example of the concatenation.
    """
    inverse = torch.argsort(order)

    def join(values: list[Any]) -> Any:
        first = values[0]
        if first is None:
            return None
        if isinstance(first, Tensor):
            return torch.cat(values)[inverse.to(first.device)]
        if isinstance(first, dict):
            return {name: join([value[name] for value in values]) for name in first}
        parts = {f.name: join([getattr(v, f.name) for v in values]) for f in fields(first)}
        return type(first)(**parts)

    joined: T = join(list(batches))
    return joined


def _map(batch: Any, function: Any) -> Any:
    if batch is None:
        return None
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {name: function(value) for name, value in batch.items()}
    return type(batch)(**{f.name: _map(getattr(batch, f.name), function) for f in fields(batch)})
