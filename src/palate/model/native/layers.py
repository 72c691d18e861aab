"""The passes between a layer's matrix products, as autograd functions over the C++ kernels.

The residual stream is fp32, what enters and leaves matrix products bf16; rows are contiguous
and widths multiples of 16 (of 32 for the rotation's heads).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from palate.model.native.attention import Layout, Parts, attend, attend_backward
from palate.model.native.build import counts, library, pointers
from palate.model.tiles import Scores

_BLOCK = 64  # rows of one partial sum of a norm's weight gradient, as in layers.cpp


def norm(x: Tensor, added: Tensor | None, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x [T, D] fp32, added [T, D] bf16 or None → their sum fp32, and its RMS norm in bf16.

    (Zhang and Sennrich 2019, equation 4.) The gradient of the sum joins that of the norm in the
    same pass.
    """
    total, y = _Norm.apply(x, added, weight, epsilon)  # type: ignore[no-untyped-call]
    return total, y


def gate(both: Tensor) -> Tensor:
    """[T, 2·I] with gate and up side by side → silu(gate)·up [T, I], bf16 (Shazeer 2020)."""
    out: Tensor = _Gate.apply(both)  # type: ignore[no-untyped-call]
    return out


def rotary_attention(
    rows: Tensor, cos: Tensor, sin: Tensor, kv_heads: int, layout: Layout, scores: Scores
) -> Tensor:
    """Rows [T, (heads + 2·kv heads)·d] of queries, keys and values → attention [T, heads, d].

    Queries and keys are turned in place (Su et al. 2021, equation 34): nobody else reads the
    product they come from. cos and sin are fp32 [T, d].
    """
    out: Tensor = _RotaryAttention.apply(  # type: ignore[no-untyped-call]
        rows, cos, sin, kv_heads, layout, scores
    )
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        rows, width = x.shape
        total = x.view_as(x) if added is None else torch.empty_like(x)
        y = torch.empty(x.shape, dtype=torch.bfloat16)
        inverse = torch.empty(rows, dtype=torch.float32)
        library().palate_norm_forward(
            *counts(rows, width),
            ctypes.c_float(epsilon),
            *pointers(x, added, weight, total, y, inverse),
        )
        ctx.save_for_backward(total if added is not None else x, weight, inverse)
        ctx.added = added is not None
        return total, y

    @staticmethod
    def backward(ctx: Any, grad_sum: Tensor | None, grad_y: Tensor | None) -> tuple[Any, ...]:
        total, weight, inverse = ctx.saved_tensors
        assert grad_y is not None, "a norm's output is always used"
        grad_sum = None if grad_sum is None else grad_sum.contiguous()
        grad_y = grad_y.contiguous()
        grad_x = torch.empty_like(total)
        grad_added = torch.empty_like(grad_y) if ctx.added else None
        blocks = None
        if ctx.needs_input_grad[2]:
            blocks = torch.empty(math.ceil(len(total) / _BLOCK), total.shape[1])
        library().palate_norm_backward(
            *counts(*total.shape),
            *pointers(total, weight, inverse, grad_y, grad_sum),
            *pointers(grad_x, grad_added, blocks),
        )
        return grad_x, grad_added, None if blocks is None else blocks.sum(0), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        out = both.new_empty(len(both), both.shape[1] // 2)
        library().palate_gate_forward(*counts(*out.shape), *pointers(both, out))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        grad_both = torch.empty_like(both)
        grad = grad.contiguous()
        library().palate_gate_backward(*counts(*grad.shape), *pointers(both, grad, grad_both))
        return grad_both


class _RotaryAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        cos: Tensor,
        sin: Tensor,
        kv_heads: int,
        layout: Layout,
        scores: Scores,
    ) -> Tensor:
        _rotate(rows, cos, sin, kv_heads, back=False)
        out, lse = attend(_parts(rows, cos.shape[-1], kv_heads), layout, scores)
        ctx.save_for_backward(rows, cos, sin, out, lse)
        ctx.kv_heads, ctx.layout, ctx.scores = kv_heads, layout, scores
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        rows, cos, sin, out, lse = ctx.saved_tensors
        grad_rows = torch.empty_like(rows)
        parts, grads = (_parts(t, cos.shape[-1], ctx.kv_heads) for t in (rows, grad_rows))
        attend_backward(parts, out, lse, grad, grads, ctx.layout, ctx.scores)
        _rotate(grad_rows, cos, sin, ctx.kv_heads, back=True)
        return grad_rows, None, None, None, None, None


def _rotate(rows: Tensor, cos: Tensor, sin: Tensor, kv_heads: int, *, back: bool) -> None:
    heads = rows.shape[1] // cos.shape[-1] - kv_heads  # all but the values
    library().palate_rotate(
        *counts(len(rows), heads, cos.shape[-1], rows.stride(0)),
        *pointers(cos, sin, rows),
        ctypes.c_int64(back),
    )


def _parts(rows: Tensor, width: int, kv_heads: int) -> Parts:
    """Queries, keys and values [heads, T, d] as views."""
    by_head = rows.unflatten(1, (-1, width)).transpose(0, 1)
    sizes = [len(by_head) - 2 * kv_heads, kv_heads, kv_heads]
    return tuple(torch.split(by_head, sizes))
