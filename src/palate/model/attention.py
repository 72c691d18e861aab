"""Attention over a token tree.

A segment's queries see the keys of its ancestors, then its own up to themselves, so
key index equals position and the causal edge is at the bottom right. Autograd sums an
ancestor's key and value gradients over all its descendants, in fp32. Roots are plain
causal attention; segments below them are computed in groups (`palate.model.groups`).

It is installed through transformers' attention interface under the name
`TREE_ATTENTION`. That name is deliberately absent from the mask interface, which
makes transformers pass no mask. The forest travels as an argument of the model's
forward, never as a global: recomputation happens after the next forest is set.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from palate.model.groups import Group, plan_attention
from palate.model.rows import gather, put, take
from palate.tokens.tree import Forest

TREE_ATTENTION = "palate_tree"


def tree_attention(  # noqa: PLR0913 the signature is transformers'
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    forest: Forest | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Exact attention of each segment over its ancestors and itself.

    query [1, heads, T, d]; key and value [1, kv heads, T, d]; returns [1, T, heads, d].
    `softcap` bounds the scores (Gemma 2), `s_aux` adds a learned sink per head (GPT-OSS).
    """
    assert forest is not None, "the forest travels as an argument of the model's forward"
    assert attention_mask is None, "tree attention builds its own masks"
    assert dropout == 0.0, "dropout is 0 in preference training"
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    special = _Special(softcap, s_aux)
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    heads, kv_heads, width = query.shape[1], key.shape[1], query.shape[-1]
    plan = plan_attention(forest, sliding_window, query.dtype, heads // kv_heads)
    q_TC, k_TC, v_TC = (t[0].transpose(0, 1).flatten(1) for t in (query, key, value))
    shape = (kv_heads, heads // kv_heads, width)
    done = [
        _root(q_TC[a:b], k_TC[a:b], v_TC[a:b], shape, scale, special, sliding_window)
        for a, b in plan.roots
    ]
    done += [_grouped(q_TC, k_TC, v_TC, group, shape, scale, special) for group in plan.groups]
    packed_TC = torch.cat(done)
    if plan.groups:  # roots alone are in packed order already
        packed_TC = take(packed_TC, plan.order)
    return packed_TC.unflatten(1, (heads, width))[None], None


class _Special:
    """What some families do to the scores, which the fused kernel does not know."""

    def __init__(self, softcap: float | None, sinks: Tensor | None) -> None:
        self.softcap, self.sinks = softcap, sinks

    def __bool__(self) -> bool:
        return self.softcap is not None or self.sinks is not None


Shape = tuple[int, int, int]


def _root(
    q_LC: Tensor,
    k_LC: Tensor,
    v_LC: Tensor,
    shape: Shape,
    scale: float,
    special: _Special,
    window: int | None,
) -> Tensor:
    """Plain causal attention of one root, [L, C]."""
    kv_heads, groups, width = shape
    length = q_LC.shape[0]
    q = q_LC.view(length, kv_heads * groups, width).transpose(0, 1)[None]
    k, v = (t.view(length, kv_heads, width).transpose(0, 1)[None] for t in (k_LC, v_LC))
    k, v = (t.repeat_interleave(groups, dim=1) if groups > 1 else t for t in (k, v))
    windowed = window is not None and window < length
    if not special and not windowed:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        row = torch.arange(length, device=q.device)
        seen = row[None, :] <= row[:, None]
        if windowed:
            assert window is not None
            seen &= row[None, :] > row[:, None] - window
        bias = torch.zeros(length, length, dtype=q.dtype, device=q.device)
        out = _attend(q, k, v, bias.masked_fill_(~seen, float("-inf")), scale, special)
    return out[0].transpose(0, 1).flatten(1)


def _grouped(
    q_TC: Tensor,
    k_TC: Tensor,
    v_TC: Tensor,
    group: Group,
    shape: Shape,
    scale: float,
    special: _Special,
) -> Tensor:
    """Attention of a group's segments over their paths; rows in the group's order, [N, C].

    Query heads that share a key head are laid along the query axis, so that keys are never
    repeated per head.
    """
    kv_heads, groups, width = shape
    size, queries, keys = group.members, group.width, group.length
    padded = put(take(q_TC, group.rows_N), group.places_N, size * queries)
    q = padded.view(size, queries, kv_heads, groups, width).permute(0, 2, 3, 1, 4)
    q = q.reshape(size, kv_heads, groups * queries, width)
    k, v = (
        gather(t, group).view(size, keys, kv_heads, width).transpose(1, 2) for t in (k_TC, v_TC)
    )
    out = _attend(q, k, v, group.bias, scale, special)
    out = out.view(size, kv_heads, groups, queries, width).permute(0, 3, 1, 2, 4)
    return take(out.reshape(size * queries, -1), group.places_N)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    scale: float,
    special: _Special,
) -> Tensor:
    """Softmax attention under an additive bias; scores written out where a family needs it."""
    if not special:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if special.softcap is not None:
        scores = special.softcap * torch.tanh(scores / special.softcap)
    scores = scores + bias
    if special.sinks is not None:
        per_head = special.sinks.float().view(1, k.shape[1], -1, 1)
        column = per_head.repeat_interleave(scores.shape[2] // per_head.shape[2], dim=2)
        column = column.expand(scores.shape[0], -1, -1, 1)
        weights = torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return weights.to(v.dtype) @ v


AttentionInterface.register(TREE_ATTENTION, tree_attention)
