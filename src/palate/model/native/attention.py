"""Tiles of attention in C++: the same plan as `palate.model.tiles`, in bf16 on AMX."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from palate.model.native.build import native
from palate.model.tiles import Scores, Tile, plan_tiles
from palate.tokens.tree import Forest

_DEPTH = 32  # of a tile product: head widths are multiples of it


class _Arguments(ctypes.Structure):
    """As in attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tiles", "heads", "kv_heads", "width", "tokens")),
        ("slots", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("start", "end", "length", "first_range")),
        *((name, ctypes.c_void_p) for name in ("ranges", "slot")),
        ("scale", ctypes.c_float),
        ("window", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value")),
        *(
            (f"{name}_{axis}", ctypes.c_int64)
            for name in ("query", "key", "value")
            for axis in ("head", "row")
        ),
        *((name, ctypes.c_void_p) for name in ("out", "lse", "grad", "grad_query", "grad_key")),
        *((name, ctypes.c_void_p) for name in ("grad_value", "slot_key", "slot_value")),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """The tiles as arrays of int64; `slots` rows hold every tile's own key gradients."""

    tiles: int
    slots: int
    start: Tensor
    end: Tensor
    length: Tensor
    first_range: Tensor
    ranges: Tensor
    slot: Tensor


def serves(query: Tensor, value: Tensor, scores: Scores, sinks: Tensor | None) -> bool:
    """Whether the C++ kernels compute this attention: bf16, on this processor, plain scores."""
    return (
        query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.shape[-1] % _DEPTH == 0
        and value.shape[-1] == query.shape[-1]
        and scores.softcap is None
        and sinks is None
        and native().library is not None
    )


def layout_of(forest: Forest, window: int | None) -> Layout:
    """The forest's tiles as the kernels read them; kept in the forest."""
    key = ("native tiles", window)
    if key not in forest.plans:
        forest.plans[key] = _layout(plan_tiles(forest, window))
    layout: Layout = forest.plans[key]
    return layout


def _layout(tiles: tuple[Tile, ...]) -> Layout:
    slot = [0, *accumulate(tile.length for tile in tiles)]
    return Layout(
        tiles=len(tiles),
        slots=slot[-1],
        start=torch.tensor([tile.start for tile in tiles]),
        end=torch.tensor([tile.end for tile in tiles]),
        length=torch.tensor([tile.length for tile in tiles]),
        first_range=torch.tensor([0, *accumulate(len(tile.keys) for tile in tiles)]),
        ranges=torch.tensor([edge for tile in tiles for keys in tile.keys for edge in keys]),
        slot=torch.tensor(slot[:-1]),
    )


class NativeAttention(torch.autograd.Function):
    """query [heads, T, d], key and value [kv heads, T, d], bf16 → [T, heads, d]."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scores: Scores
    ) -> Tensor:
        query, key, value = (_rows(t) for t in (query, key, value))
        heads, tokens, width = query.shape
        out = query.new_empty(tokens, heads, width)
        lse = torch.empty(heads, tokens, dtype=torch.float32)
        arguments = _arguments(query, key, value, out, lse, layout, scores)
        _library().palate_attention_forward(ctypes.byref(arguments))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scores = layout, scores
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        layout: Layout = ctx.layout
        grad = grad.contiguous()
        grad_q = torch.empty(query.shape, dtype=query.dtype)
        grad_k, grad_v = (torch.empty(t.shape, dtype=t.dtype) for t in (key, value))
        slots = torch.empty(2, len(key), layout.slots, key.shape[-1], dtype=torch.float32)
        arguments = _arguments(query, key, value, out, lse, layout, ctx.scores)
        arguments.grad = grad.data_ptr()
        arguments.grad_query = grad_q.data_ptr()
        arguments.grad_key, arguments.grad_value = grad_k.data_ptr(), grad_v.data_ptr()
        arguments.slot_key, arguments.slot_value = slots[0].data_ptr(), slots[1].data_ptr()
        _library().palate_attention_backward(ctypes.byref(arguments))
        return grad_q, grad_k, grad_v, None, None


def _library() -> ctypes.CDLL:
    library = native().library
    assert library is not None, "asked for only where the kernels are"
    return library


def _rows(tensor: Tensor) -> Tensor:
    """The tensor, copied if a row of it is not contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    layout: Layout,
    scores: Scores,
) -> _Arguments:
    heads, tokens, width = query.shape
    strides = {
        f"{name}_{axis}": tensor.stride(at)
        for name, tensor in (("query", query), ("key", key), ("value", value))
        for at, axis in enumerate(("head", "row"))
    }
    return _Arguments(
        tiles=layout.tiles,
        heads=heads,
        kv_heads=len(key),
        width=width,
        tokens=tokens,
        slots=layout.slots,
        start=layout.start.data_ptr(),
        end=layout.end.data_ptr(),
        length=layout.length.data_ptr(),
        first_range=layout.first_range.data_ptr(),
        ranges=layout.ranges.data_ptr(),
        slot=layout.slot.data_ptr(),
        scale=scores.scale,
        window=scores.window or 0,
        query=query.data_ptr(),
        key=key.data_ptr(),
        value=value.data_ptr(),
        out=out.data_ptr(),
        lse=lse.data_ptr(),
        **strides,
    )
