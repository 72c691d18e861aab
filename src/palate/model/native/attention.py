"""Tiles of attention in C++: the same plan as `palate.model.tiles`, in bf16 on AMX."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from palate.model.native.build import library, native
from palate.model.tiles import Scores, Tile, plan_tiles
from palate.tokens.tree import Forest

_DEPTH = 32  # of a tile product: head widths are multiples of it


def _pointers(*names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, ctypes.c_void_p) for name in names)


def _numbers(*names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, ctypes.c_int64) for name in names)


def _strides(*names: str) -> tuple[tuple[str, Any], ...]:
    return _numbers(*(f"{name}_{axis}" for name in names for axis in ("head", "row")))


class _Arguments(ctypes.Structure):
    """`Arguments` of attention.cpp, field by field."""

    _fields_ = (
        *_numbers("tiles", "heads", "kv_heads", "width", "tokens", "slots"),
        *_pointers("start", "end", "length", "first_range", "ranges", "slot"),
        ("scale", ctypes.c_float),
        *_numbers("window"),
        *_pointers("query", "key", "value"),
        *_strides("query", "key", "value"),
        *_pointers("out", "lse", "grad", "grad_query", "grad_key", "grad_value"),
        *_strides("grad_query", "grad_key", "grad_value"),
        *_pointers("slot_key", "slot_value"),
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


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scores: Scores
    ) -> Tensor:
        parts = tuple(t if t.stride(-1) == 1 else t.contiguous() for t in (query, key, value))
        out, lse = attend(parts, layout, scores)
        ctx.save_for_backward(*parts, out, lse)
        ctx.layout, ctx.scores = layout, scores
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        *parts, out, lse = ctx.saved_tensors
        grads = tuple(torch.empty(t.shape, dtype=t.dtype) for t in parts)
        attend_backward(tuple(parts), out, lse, grad, grads, ctx.layout, ctx.scores)
        return *grads, None, None


def native_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scores: Scores
) -> Tensor:
    """query [heads, T, d], key and value [kv heads, T, d], bf16 → [T, heads, d]."""
    out: Tensor = _NativeAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, layout, scores
    )
    return out


Parts = tuple[Tensor, ...]  # query [heads, T, d], key and value [kv heads, T, d], in any strides


def attend(parts: Parts, layout: Layout, scores: Scores) -> tuple[Tensor, Tensor]:
    """The result [T, heads, d], and the log-sum-exp of every query's scores [heads, T]."""
    heads, tokens, width = parts[0].shape
    out = parts[0].new_empty(tokens, heads, width)
    lse = torch.empty(heads, tokens, dtype=torch.float32)
    arguments = _arguments(parts, out, lse, layout, scores)
    library().palate_attention_forward(ctypes.byref(arguments))
    return out, lse


def attend_backward(
    parts: Parts,
    out: Tensor,
    lse: Tensor,
    grad: Tensor,
    grads: Parts,
    layout: Layout,
    scores: Scores,
) -> None:
    """Write the gradients of query, key and value into `grads`, given that of `out`."""
    grad = grad.contiguous()
    arguments = _arguments(parts, out, lse, layout, scores)
    arguments.grad = grad.data_ptr()
    _point(arguments, grads, "grad_")
    shape = (len(parts[1]), layout.slots, parts[1].shape[-1])
    slots = [torch.empty(shape, dtype=torch.float32) for _ in range(2)]
    arguments.slot_key, arguments.slot_value = (t.data_ptr() for t in slots)
    library().palate_attention_backward(ctypes.byref(arguments))


def _arguments(
    parts: Parts, out: Tensor, lse: Tensor, layout: Layout, scores: Scores
) -> _Arguments:
    heads, tokens, width = parts[0].shape
    arguments = _Arguments(
        tiles=layout.tiles,
        heads=heads,
        kv_heads=len(parts[1]),
        width=width,
        tokens=tokens,
        slots=layout.slots,
        scale=scores.scale,
        window=scores.window or 0,
        out=out.data_ptr(),
        lse=lse.data_ptr(),
    )
    for name in ("start", "end", "length", "first_range", "ranges", "slot"):
        setattr(arguments, name, getattr(layout, name).data_ptr())
    _point(arguments, parts, "")
    return arguments


def _point(arguments: _Arguments, parts: Parts, prefix: str) -> None:
    for name, tensor in zip(("query", "key", "value"), parts, strict=True):
        setattr(arguments, prefix + name, tensor.data_ptr())
        setattr(arguments, f"{prefix}{name}_head", tensor.stride(0))
        setattr(arguments, f"{prefix}{name}_row", tensor.stride(1))
