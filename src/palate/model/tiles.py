"""Exact attention of a forest, tile by tile.

A tile is a stretch of one segment's queries against all the keys that they may see: the
ancestors' and the segment's own, so that key index equals position. Its scores stay in the
processor's cache, there is no padding, and no mask but the triangle on the diagonal (and a
sliding window's edge). What a tile computes depends on its own path alone, never on what else
is in the forest, so another packing rounds the same way.

One autograd node holds a whole layer. It keeps queries, keys and values, which the model
keeps anyway; the backward pass gathers the keys again and computes the scores again
(FlashAttention's recomputation, arXiv 2205.14135, section 3.1). Gradients of keys and values
are summed over a trunk's descendants in fp32: a bf16 sum over 64 branches is off by 0.8 %.

Scores are fp32 in every precision. With bf16 inputs the products are bf16 with fp32 sums and
results, which oneDNN offers as a way to multiply fp32 matrices (`products`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palate.tokens.tree import Forest, Segment

# Queries of one tile: a root is cut into tiles so that most of the square above its diagonal
# is never computed.
TILE = 256


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries [start, end) of the packed row; `keys` are the row ranges they look at, in order.

    `length` counts the keys; the last `end − start` are the queries' own rows.
    """

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    length: int


def plan_tiles(forest: Forest, window: int | None) -> tuple[Tile, ...]:
    """The tiles of a forest under a sliding window (None: no window); kept in the forest."""
    key = ("tiles", window)
    if key not in forest.plans:
        forest.plans[key] = tuple(t for s in forest.segments for t in _tiles(s, window))
    plan: tuple[Tile, ...] = forest.plans[key]
    return plan


def _tiles(segment: Segment, window: int | None) -> Iterator[Tile]:
    for start in range(segment.start, segment.end, TILE):
        end = min(start + TILE, segment.end)
        position = segment.position + start - segment.start
        first = 0 if window is None else max(0, position - window + 1)
        ranges, at = [], 0
        for begin, stop in (*segment.context, (segment.start, end)):
            skip = max(0, first - at)
            at += stop - begin
            if skip < stop - begin:
                ranges.append((begin + skip, stop))
        yield Tile(start, end, tuple(ranges), sum(stop - begin for begin, stop in ranges))


@dataclass(frozen=True, slots=True)
class Scores:
    """How scores become weights: `scale`, a sliding `window`, a `softcap` (Gemma 2)."""

    scale: float
    window: int | None = None
    softcap: float | None = None


def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    tiles: tuple[Tile, ...],
    scores: Scores,
) -> Tensor:
    """query [heads, T, d], key [kv heads, T, d], value [kv heads, T, e] → [T, heads, e].

    `sinks` [heads] adds a learned score to every query's softmax that weighs nothing (GPT-OSS).
    """
    out: Tensor = _TiledAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, sinks, tiles, scores
    )
    return out


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        tiles: tuple[Tile, ...],
        scores: Scores,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, sinks)
        ctx.tiles, ctx.scores = tiles, scores
        heads, tokens, _ = query.shape
        out = query.new_empty(tokens, heads, value.shape[-1])
        with products(query.dtype):
            for tile in tiles:
                q, k, v = _inputs(tile, query, key, value)
                p = _weights(tile, q, k, scores, sinks)[0]
                result = torch.bmm(p, v).view(heads, -1, v.shape[-1])
                out[tile.start : tile.end] = result.transpose(0, 1)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        query, key, value, sinks = ctx.saved_tensors
        scores: Scores = ctx.scores
        grad_q = torch.empty_like(query)
        wide = _wide(query.dtype)
        grad_k, grad_v = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        grad_s = None if sinks is None else torch.zeros_like(sinks, dtype=wide)
        with products(query.dtype):
            for tile in ctx.tiles:
                q, k, v = _inputs(tile, query, key, value)
                p, capped, left = _weights(tile, q, k, scores, sinks)
                g = _per_kv_head(grad[tile.start : tile.end].transpose(0, 1), len(k))
                d_p = torch.bmm(g, v.transpose(1, 2))
                d_v = torch.bmm(p.transpose(1, 2), g)
                d_s = torch._softmax_backward_data(d_p, p, -1, p.dtype)  # noqa: SLF001 one pass
                if grad_s is not None and left is not None:
                    # ∂/∂sink: its own weight times −Σ_k p·∂p, over all queries of a head
                    grad_s -= (left * (p * d_p).sum(-1)).view(len(grad_s), -1).sum(-1)
                if capped is not None and scores.softcap is not None:
                    d_s *= 1 - capped.div_(scores.softcap).square_()
                d_q = torch.baddbmm(q, d_s, k, beta=0, alpha=scores.scale)
                d_k = torch.baddbmm(k, d_s.transpose(1, 2), q, beta=0, alpha=scores.scale)
                grad_q[:, tile.start : tile.end] = d_q.view(len(grad_q), -1, q.shape[-1])
                _add_rows(grad_k, d_k, tile)
                _add_rows(grad_v, d_v, tile)
        back = None if grad_s is None else grad_s.to(sinks.dtype)
        return grad_q, grad_k.to(key.dtype), grad_v.to(value.dtype), back, None, None


def _inputs(tile: Tile, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [kv heads, G·Q, d], keys [kv heads, K, d], values [kv heads, K, e], in fp32.

    The G query heads that share a key head lie along the query axis, so that keys are never
    repeated.
    """
    q = _per_kv_head(query[:, tile.start : tile.end], len(key))
    return q, _gather(key, tile), _gather(value, tile)


def _per_kv_head(rows: Tensor, kv_heads: int) -> Tensor:
    return rows.to(_wide(rows.dtype)).reshape(kv_heads, -1, rows.shape[-1])


def _gather(rows: Tensor, tile: Tile) -> Tensor:
    parts = [rows[:, begin:stop] for begin, stop in tile.keys]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).to(_wide(rows.dtype))


def _add_rows(total: Tensor, part: Tensor, tile: Tile) -> None:
    at = 0
    for begin, stop in tile.keys:
        total[:, begin:stop] += part[:, at : at + stop - begin]
        at += stop - begin


def _weights(
    tile: Tile, q: Tensor, k: Tensor, scores: Scores, sinks: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Softmax weights [kv heads, G·Q, K]; the capped scores and the sinks' weights, if any."""
    s = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scores.scale)
    capped = None
    if scores.softcap is not None:
        s = torch.tanh_(s.div_(scores.softcap)).mul_(scores.softcap)
        capped = s.clone()
    queries = tile.end - tile.start
    by_query = s.view(len(s), -1, queries, tile.length)
    if queries > 1:
        by_query[..., tile.length - queries :] += _triangle(queries, s)
    if scores.window is not None and tile.length > scores.window:
        # key c of query r is r + length − queries − c positions back
        back = torch.arange(queries, device=s.device)[:, None] + tile.length - queries
        back = back - torch.arange(tile.length, device=s.device)
        by_query.masked_fill_(back >= scores.window, float("-inf"))
    if sinks is None:
        return torch.softmax(s, dim=-1), capped, None
    column = sinks.to(s.dtype).view(len(s), -1, 1).expand(-1, -1, queries).reshape(len(s), -1, 1)
    whole = torch.softmax(torch.cat([s, column], dim=-1), dim=-1)
    return whole[..., :-1], capped, whole[..., -1]


def _triangle(size: int, like: Tensor) -> Tensor:
    """−inf above the diagonal."""
    full = torch.full((size, size), float("-inf"), dtype=like.dtype, device=like.device)
    return full.triu_(1)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


@contextmanager
def products(inputs: torch.dtype) -> Iterator[None]:
    """Inside, products of fp32 matrices round their factors to bf16 if `inputs` were bf16.

    The factors are bf16 values in fp32 clothes, or weights and gradients that a bf16 kernel
    would round as well; sums and results are fp32.
    """
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16" if inputs == torch.bfloat16 else "ieee"
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
