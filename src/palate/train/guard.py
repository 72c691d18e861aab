"""A step that went wrong never reaches the weights, and is named.

On a CPU the loss and the gradient's norm are at hand, and were looked at before. Reading them
from a GPU would stop the host until the step is done, so there a fused optimizer is told on the
device to leave the step out, and the host looks one step later, or when something is about to be
written. Other optimizers cannot be told: for those the two are read before the step is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Check:
    values: Tensor  # [loss, gradient norm], on its way to the host
    arrived: torch.cuda.Event | None
    rows: Sequence[int]


class Guard:
    """Takes the optimizer's steps, those that are finite."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, deferred: bool | None = None) -> None:
        self.optimizer = optimizer
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        can = bool(optimizer.defaults.get("fused"))
        self.deferred = can and all(w.is_cuda for w in weights) if deferred is None else deferred
        self._waiting: _Check | None = None

    def step(self, loss: Tensor, norm: Tensor, rows: Sequence[int]) -> None:
        """One optimizer step with the gradients as they are.

        Raises `FloatingPointError` where this step, or the one before, was not finite; the
        weights are then those from before it.
        """
        values = torch.stack([loss.to(norm.device, torch.float64), norm.double()])
        if not self.deferred:
            _raise_unless_finite(values, rows)
            self.optimizer.step()
            return
        self.settle()  # the step before: done long ago, so nobody waits
        left_out = ~torch.isfinite(values).all()
        self.optimizer.found_inf = left_out.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self._waiting = _send(values, rows)

    def settle(self) -> None:
        """Look at what has not been looked at: before weights or metrics are read or written."""
        before, self._waiting = self._waiting, None
        _look(before)


def _send(values: Tensor, rows: Sequence[int]) -> _Check:
    if not values.is_cuda:
        return _Check(values, None, rows)
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return _Check(host, arrived, rows)


def _look(check: _Check | None) -> None:
    if check is None:
        return
    if check.arrived is not None:
        check.arrived.synchronize()
    _raise_unless_finite(check.values, check.rows)


def _raise_unless_finite(values: Tensor, rows: Sequence[int]) -> None:
    loss, norm = values.tolist()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} on examples {list(rows)}")
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm} on examples {list(rows)}")
