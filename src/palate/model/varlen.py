"""Tree attention on CUDA through the variable-length flash kernel.

Each segment is one sequence of the kernel: its queries, and as keys its whole path, so that
key index equals position. Where a sequence has more keys than queries, the kernel's causal edge
is at the bottom right (flash-attention ≥ 2.1), which is what a segment below others needs; the
start-up check in `palate.model.kernels` proves it on the device at hand.

The operator is the one that `torch.nn.attention.varlen.varlen_attn` calls. It is called here by
itself because `varlen_attn` keeps the gathered keys and values for the backward pass: paths
overlap, so they can be many times the packed row, and are gathered again instead. The rows that
several segments read get the sum of their gradients in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from palate.tokens.tree import Forest, to_device


@dataclass(frozen=True, slots=True)
class VarlenPlan:
    """A forest as sequences of the kernel: S segments, T packed rows, N gathered key rows.

    - `queries_S`, `keys_S`: where each sequence begins, int32 [S + 1]; `longest_query`,
      `longest_key` are the lengths of the longest.
    - `rows_N`: the packed row of each gathered key; None where no segment has a parent, as the
      packed row itself then holds the keys.
    - `own_T`: where each packed row stands as its own segment's key.
    - `shared_R`: packed rows that other segments read; `uses_M` says where they stand in their
      descendants' paths, row after row, `counts_R` times each.
    """

    queries_S: Tensor
    keys_S: Tensor
    longest_query: int
    longest_key: int
    rows_N: Tensor | None
    own_T: Tensor
    shared_R: Tensor
    uses_M: Tensor
    counts_R: Tensor


def plan_varlen(forest: Forest) -> VarlenPlan:
    """The plan of a forest on its device; kept in the forest, one for all layers."""
    if "varlen" not in forest.plans:
        forest.plans["varlen"] = _make(forest)
    plan: VarlenPlan = forest.plans["varlen"]
    return plan


def _make(forest: Forest) -> VarlenPlan:
    device = forest.ids_T.device
    queries = [segment.length for segment in forest.segments]
    keys = [segment.position + segment.length for segment in forest.segments]
    rows_N = np.concatenate(
        [
            np.arange(a, b)
            for segment in forest.segments
            for a, b in (*segment.context, (segment.start, segment.end))
        ]
    )
    ends_S = np.cumsum(keys)
    own = np.zeros(len(rows_N), dtype=bool)
    for segment, end in zip(forest.segments, ends_S, strict=True):
        own[end - segment.length : end] = True
    own_T = np.flatnonzero(own)
    assert np.array_equal(rows_N[own_T], np.arange(forest.unique_tokens)), "segments are in order"
    uses_M = np.flatnonzero(~own)
    uses_M = uses_M[np.argsort(rows_N[uses_M], kind="stable")]
    shared_R, counts_R = np.unique(rows_N[uses_M], return_counts=True)

    def tensor(values: Any, dtype: torch.dtype = torch.int64) -> Tensor:
        return to_device(torch.as_tensor(values, dtype=dtype), device)

    return VarlenPlan(
        queries_S=tensor(np.cumsum([0, *queries]), torch.int32),
        keys_S=tensor(np.cumsum([0, *keys]), torch.int32),
        longest_query=max(queries),
        longest_key=max(keys),
        rows_N=tensor(rows_N) if forest.shared else None,
        own_T=tensor(own_T),
        shared_R=tensor(shared_R),
        uses_M=tensor(uses_M),
        counts_R=tensor(counts_R),
    )


def flash_forward(
    q_Thd: Tensor, k_Nkd: Tensor, v_Nkd: Tensor, plan: VarlenPlan, scale: float, window: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The kernel: (output [T, h, d], log-sum-exp, and two tensors that its backward wants)."""
    left, causal = _edges(window)
    out: tuple[Tensor, ...] = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 see above
        q_Thd,
        k_Nkd,
        v_Nkd,
        plan.queries_S,
        plan.keys_S,
        plan.longest_query,
        plan.longest_key,
        0.0,
        causal,
        False,
        scale=scale,
        window_size_left=left,
        window_size_right=0,
    )
    return out[0], out[1], out[2], out[3]


def flash_backward(
    grad_Thd: Tensor,
    q_Thd: Tensor,
    k_Nkd: Tensor,
    v_Nkd: Tensor,
    kept: tuple[Tensor, Tensor, Tensor, Tensor],
    plan: VarlenPlan,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the queries and of the gathered keys and values."""
    left, causal = _edges(window)
    out_Thd, lse, seed, offset = kept
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(  # noqa: SLF001 see above
        grad_Thd,
        q_Thd,
        k_Nkd,
        v_Nkd,
        out_Thd,
        lse,
        plan.queries_S,
        plan.keys_S,
        plan.longest_query,
        plan.longest_key,
        0.0,
        causal,
        seed,
        offset,
        scale=scale,
        window_size_left=left,
        window_size_right=0,
    )
    return found


def _edges(window: int | None) -> tuple[int, bool]:
    """(keys to the left of its own that a query sees, −1: all; whether that is plain causal)."""
    return (-1, True) if window is None else (window - 1, False)


class _PathAttention(torch.autograd.Function):
    """Attention of all segments over their paths; paths are gathered anew in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        q_Thd: Tensor,
        k_Tkd: Tensor,
        v_Tkd: Tensor,
        plan: VarlenPlan,
        scale: float,
        window: int | None,
    ) -> Tensor:
        k_Nkd, v_Nkd = _gather(k_Tkd, plan), _gather(v_Tkd, plan)
        kept = flash_forward(q_Thd, k_Nkd, v_Nkd, plan, scale, window)
        ctx.save_for_backward(q_Thd, k_Tkd, v_Tkd, *kept)
        ctx.plan, ctx.scale, ctx.window = plan, scale, window
        return kept[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Thd: Tensor) -> tuple[Tensor | None, ...]:
        q_Thd, k_Tkd, v_Tkd, *kept = ctx.saved_tensors
        plan: VarlenPlan = ctx.plan
        k_Nkd, v_Nkd = _gather(k_Tkd, plan), _gather(v_Tkd, plan)
        grads = flash_backward(
            grad_Thd.contiguous(), q_Thd, k_Nkd, v_Nkd, tuple(kept), plan, ctx.scale, ctx.window
        )
        grad_k, grad_v = _sum_uses(grads[1], plan), _sum_uses(grads[2], plan)
        return grads[0], grad_k, grad_v, None, None, None


def _gather(rows_Tkd: Tensor, plan: VarlenPlan) -> Tensor:
    """Keys or values of every path, [N, k, d]."""
    return rows_Tkd if plan.rows_N is None else rows_Tkd.index_select(0, plan.rows_N)


def _sum_uses(grad_Nkd: Tensor, plan: VarlenPlan) -> Tensor:
    """Gradients of the packed rows: sums over all uses, in fp32 and always in the same order.

    An `index_add_` would do, but adds in whatever order its threads arrive.
    """
    if plan.rows_N is None:
        return grad_Nkd
    wide = torch.promote_types(grad_Nkd.dtype, torch.float32)
    summed_Tkd = grad_Nkd.index_select(0, plan.own_T)
    uses_Mkd = grad_Nkd.index_select(0, plan.uses_M).to(wide)
    above_Rkd = torch.segment_reduce(
        uses_Mkd.flatten(1), "sum", lengths=plan.counts_R, axis=0, unsafe=True
    ).view(-1, *grad_Nkd.shape[1:])
    above_Rkd += summed_Tkd.index_select(0, plan.shared_R)
    return summed_Tkd.index_copy_(0, plan.shared_R, above_Rkd.to(grad_Nkd.dtype))


def supports_varlen(query: Tensor, *, special: bool) -> bool:
    """Whether the kernel takes these heads: half precision, and no changes to the scores."""
    width = query.shape[-1]
    half = query.dtype in (torch.bfloat16, torch.float16)
    return half and width % 8 == 0 and width <= 256 and not special


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, scale: float, window: int | None
) -> Tensor:
    """Tree attention; query [1, h, T, d], key and value [1, k, T, d]; returns [1, T, h, d]."""
    q_Thd, k_Tkd, v_Tkd = (t[0].transpose(0, 1) for t in (query, key, value))
    out: Tensor = _PathAttention.apply(  # type: ignore[no-untyped-call]
        q_Thd, k_Tkd, v_Tkd, plan_varlen(forest), scale, window
    )
    return out[None]
