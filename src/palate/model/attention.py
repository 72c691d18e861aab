"""Attention over a token tree.

The packed row is computed segment by segment: a segment's queries see the keys of
its ancestors, then its own up to themselves, so key index equals position and the
causal edge is at the bottom right. Autograd sums an ancestor's key and value
gradients over all its descendants.

It is installed through transformers' attention interface under the name
`TREE_ATTENTION`. That name is deliberately absent from the mask interface, which
makes transformers pass no mask. The forest travels as an argument of the model's
forward, never as a global: recomputation happens after the next forest is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from palate.tokens.tree import Forest, Segment

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
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    plain = softcap is None and s_aux is None
    # One split and not a slice for each segment: a slice's backward fills a whole row with
    # zeros for every use, which took a third of a step.
    lengths = [segment.length for segment in forest.segments]
    parts_q, parts_k, parts_v = (rows.split(lengths, dim=2) for rows in (query, key, value))
    outputs = []
    for number, segment in enumerate(forest.segments):
        queries = parts_q[number]
        keys, values = _path(parts_k, forest, number), _path(parts_v, forest, number)
        mask = _mask(segment, sliding_window, query.device)
        if plain:
            out = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling
            )
        else:
            out = _explicit(queries, keys, values, mask, scaling, softcap, s_aux)
        outputs.append(out)
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _path(parts: Sequence[Tensor], forest: Forest, number: int) -> Tensor:
    """Keys or values of a segment's ancestors, root first, then its own."""
    path = [parts[number]]
    while (number := forest.segments[number].parent) >= 0:
        path.append(parts[number])
    return path[0] if len(path) == 1 else torch.cat(path[::-1], dim=2)


def _mask(segment: Segment, window: int | None, device: torch.device) -> Tensor | None:
    """True where a query may look; None when plain causal attention says the same."""
    total = segment.position + segment.length
    windowed = window is not None and window < total
    if segment.position == 0 and not windowed:
        return None
    row = torch.arange(segment.position, total, device=device)[:, None]
    column = torch.arange(total, device=device)[None, :]
    mask = column <= row
    if windowed:
        assert window is not None
        mask &= column > row - window
    return mask


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Scores written out, for models whose softmax the fused kernel does not know."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        size = scores.shape[-1]
        mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril()
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1)
        weights = torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return weights.to(value.dtype) @ value


AttentionInterface.register(TREE_ATTENTION, tree_attention)
