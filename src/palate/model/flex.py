"""Tree attention through `flex_attention`: one call over the packed row with a tree's block mask.

A query sees a key when the key's row lies on the query's path. With segments numbered in depth
first order, segment s holds the numbers [enter, exit) of itself and everything below it, so

    visible = enter[key] ≤ enter[query] < exit[key]  and  key's row ≤ query's row

(rows on one path are in packed order). A sliding window compares positions. Which blocks of the
mask are empty, partly or wholly visible is counted here from the segments' ranges; torch's own
`create_block_mask` would lay out all T × T entries. Softcaps change the scores; a sink is a
further column of the softmax, so the output is multiplied by sigmoid(lse − sink).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from palate.tokens.tree import Forest, to_device

BLOCK = 128


@functools.cache
def fused() -> Callable[..., Any]:
    """The compiled operator; uncompiled it would write out all scores."""
    return torch.compile(flex_attention, dynamic=False)


def plan_flex(forest: Forest, window: int | None) -> BlockMask:
    """The block mask of a forest on its device; kept in the forest."""
    key = ("flex", window)
    if key not in forest.plans:
        forest.plans[key] = _make(forest, window)
    mask: BlockMask = forest.plans[key]
    return mask


def _make(forest: Forest, window: int | None) -> BlockMask:
    device, size = forest.ids_T.device, forest.unique_tokens
    enter_T, exit_T = (to_device(torch.from_numpy(v), device) for v in intervals(forest))
    mask_mod = _visible(enter_T, exit_T, forest.positions_T, window)
    count_QK = visible_by_block(forest, window, BLOCK)
    # The last block may be cut short: it never counts as wholly visible.
    full_QK = count_QK == BLOCK * BLOCK
    partial_QK = (count_QK > 0) & ~full_QK
    partial, full = (
        [to_device(torch.from_numpy(t), device) for t in _table(m)] for m in (partial_QK, full_QK)
    )
    return BlockMask.from_kv_blocks(
        partial[0],
        partial[1],
        full[0],
        full[1],
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_mod,
        seq_lengths=(size, size),
    )


def intervals(forest: Forest) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each packed row its segment's [enter, exit) in depth-first numbers, int32 [T]."""
    below: dict[int, list[int]] = {}
    for index, segment in enumerate(forest.segments):
        below.setdefault(segment.parent, []).append(index)
    enter = np.zeros(len(forest.segments), dtype=np.int32)
    leave = np.zeros_like(enter)
    order: list[int] = []
    todo = list(reversed(below[-1]))
    while todo:
        order.append(todo.pop())
        todo.extend(reversed(below.get(order[-1], [])))
    for number, index in enumerate(order):
        enter[index], leave[index] = number, number + 1
    for index in reversed(order):
        parent = forest.segments[index].parent
        if parent >= 0:
            leave[parent] = max(leave[parent], leave[index])
    lengths = [segment.length for segment in forest.segments]
    return np.repeat(enter, lengths), np.repeat(leave, lengths)


def visible_by_block(forest: Forest, window: int | None, block: int) -> np.ndarray[Any, Any]:
    """How many (query, key) pairs of each block of the mask are visible, int64 [Q, K]."""
    blocks = -(-forest.unique_tokens // block)
    counts = np.zeros((blocks, blocks), dtype=np.int64)
    for segment in forest.segments:
        rows = np.arange(segment.start, segment.end)
        positions = segment.position + rows - segment.start
        above = 0
        for begin, end in (*segment.context, (segment.start, segment.end)):
            last = np.minimum(end, rows + 1)
            first = np.full_like(rows, begin)
            if window is not None:  # key at position `above + r − begin` must exceed p − window
                first = np.maximum(first, positions - window + 1 - above + begin)
            edges = np.arange(begin // block, -(-end // block) + 1) * block
            inside = np.clip(last[:, None], edges[:-1], edges[1:])
            inside = inside - np.clip(first[:, None], edges[:-1], edges[1:])
            seen = np.maximum(inside, 0)
            into = counts[:, begin // block : -(-end // block)]
            np.add.at(into, rows // block, seen)
            above += end - begin
    return counts


def _table(mask_QK: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """How many blocks each row has, and which, those first: int32 [1, 1, Q] and [1, 1, Q, K]."""
    which = np.argsort(~mask_QK, axis=1, kind="stable").astype(np.int32)
    return mask_QK.sum(axis=1).astype(np.int32)[None, None], which[None, None]


def _visible(
    enter_T: Tensor, exit_T: Tensor, positions_T: Tensor, window: int | None
) -> Callable[..., Tensor]:
    def on_path(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        below = (enter_T[key] <= enter_T[query]) & (enter_T[query] < exit_T[key])
        return below & (key <= query)

    if window is None:
        return on_path

    def in_window(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = positions_T[query] - positions_T[key] < window
        return on_path(b, h, query, key) & near

    return in_window


def _capped(softcap: float) -> Callable[..., Tensor]:
    def cap(score: Tensor, _b: Tensor, _h: Tensor, _q: Tensor, _k: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def flex_tree_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scale: float,
    window: int | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Tree attention; query [1, h, T, d], key and value [1, k, T, d]; returns [1, T, h, d]."""
    options: dict[str, Any] = {
        "score_mod": None if softcap is None else _capped(softcap),
        "block_mask": plan_flex(forest, window),
        "scale": scale,
        "enable_gqa": query.shape[1] != key.shape[1],
    }
    if sinks is None:
        out: Tensor = fused()(query, key, value, **options)
    else:
        out, aux = fused()(query, key, value, **options, return_aux=AuxRequest(lse=True))
        share_1HT = torch.sigmoid(aux.lse - sinks.float().view(1, -1, 1))
        out = out * share_1HT[..., None].to(out.dtype)
    return out.transpose(1, 2)
