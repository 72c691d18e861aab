"""Moving rows between the packed row and a group, with backward passes that only do what is needed.

torch's own indexing must assume that an index may come twice, and adds row by row. Here
it is known: queries and results never repeat, and an ancestor's repeated keys lie in
ranges that are summed as blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.model.groups import Group, Piece


class _Take(torch.autograd.Function):
    """Rows by distinct indices; the backward pass copies, because none comes twice."""

    @staticmethod
    def forward(ctx: Any, rows_TC: Tensor, index_N: Tensor) -> Tensor:
        ctx.save_for_backward(index_N)
        ctx.size = rows_TC.shape[0]
        return rows_TC.index_select(0, index_N)

    @staticmethod
    def backward(ctx: Any, grad_NC: Tensor) -> tuple[Tensor, None]:
        (index_N,) = ctx.saved_tensors
        full = grad_NC.new_zeros(ctx.size, grad_NC.shape[1])
        return full.index_copy_(0, index_N, grad_NC), None


class _Put(torch.autograd.Function):
    """The inverse: rows at distinct places of a larger zero tensor."""

    @staticmethod
    def forward(ctx: Any, rows_NC: Tensor, places_N: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places_N)
        return rows_NC.new_zeros(size, rows_NC.shape[1]).index_copy_(0, places_N, rows_NC)

    @staticmethod
    def backward(ctx: Any, grad_PC: Tensor) -> tuple[Tensor, None, None]:
        (places_N,) = ctx.saved_tensors
        return grad_PC.index_select(0, places_N), None, None


class _Gather(torch.autograd.Function):
    """Keys or values of every member's path, [S·K, C].

    An ancestor's rows stand in many members. Their gradients are summed piece by piece in
    fp32: a bf16 sum over 64 branches is off by 0.8 % (ENGINE).
    """

    @staticmethod
    def forward(
        ctx: Any, rows_TC: Tensor, keys: Tensor, pieces: tuple[Piece, ...], length: int
    ) -> Tensor:
        ctx.pieces, ctx.length, ctx.size = pieces, length, rows_TC.shape[0]
        return rows_TC.index_select(0, keys)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        grad_SKC = grad.view(-1, ctx.length, grad.shape[1])
        wide = torch.promote_types(grad.dtype, torch.float32)
        full_TC = torch.zeros(ctx.size, grad.shape[1], dtype=wide, device=grad.device)
        for piece in ctx.pieces:
            end = piece.at + piece.end - piece.start
            part = grad_SKC[piece.first : piece.last, piece.at : end]
            full_TC[piece.start : piece.end] += part.sum(dim=0, dtype=wide)
        return full_TC.to(grad.dtype), None, None, None


def take(rows_TC: Tensor, index_N: Tensor) -> Tensor:
    """Rows [N, C] by distinct indices."""
    out: Tensor = _Take.apply(rows_TC, index_N)  # type: ignore[no-untyped-call]
    return out


def put(rows_NC: Tensor, places_N: Tensor, size: int) -> Tensor:
    """Rows at distinct places of a zero tensor [size, C]."""
    out: Tensor = _Put.apply(rows_NC, places_N, size)  # type: ignore[no-untyped-call]
    return out


def gather(rows_TC: Tensor, group: Group) -> Tensor:
    """The keys or values of every member's path, [S·K, C]; gradients are summed in fp32."""
    out: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        rows_TC, group.keys, group.pieces, group.length
    )
    return out
