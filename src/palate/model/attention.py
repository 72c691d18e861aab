"""Attention over a token tree, as transformers calls it.

A segment's queries see the keys of its ancestors, then its own up to themselves, so key index
equals position and the causal edge is at the bottom right. How it is computed is
`palate.model.tiles`.

It is installed through transformers' attention interface under the name `TREE_ATTENTION`. That
name is deliberately absent from the mask interface, which makes transformers pass no mask. The
forest travels as an argument of the model's forward, never as a global: recomputation happens
after the next forest is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from palate.model.native.attention import layout_of, native_attention, serves
from palate.model.tiles import Scores, plan_tiles, tiled_attention
from palate.tokens.tree import Forest

TREE_ATTENTION = "palate_tree"


@torch.compiler.disable  # type: ignore[untyped-decorator]  # plans are Python, made for one forest
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
    kernel: Callable[..., Tensor | None] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Exact attention of each segment over its ancestors and itself.

    query [1, heads, T, d]; key and value [1, kv heads, T, d]; returns [1, T, heads, d].
    `softcap` bounds the scores (Gemma 2), `s_aux` adds a learned sink per head (GPT-OSS).
    `kernel` computes it instead where it can (`palate.model.kernels`).
    """
    assert forest is not None, "the forest travels as an argument of the model's forward"
    assert attention_mask is None, "tree attention builds its own masks"
    assert dropout == 0.0, "dropout is 0 in preference training"
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if kernel is not None:
        done = kernel(query, key, value, forest, scale, sliding_window, softcap, s_aux)
        if done is not None:
            return done, None
    scores = Scores(scale, sliding_window, softcap)
    parts = (query[0], key[0], value[0])
    if serves(query, value, scores, s_aux):
        return native_attention(*parts, layout_of(forest, sliding_window), scores)[None], None
    tiles = plan_tiles(forest, sliding_window)
    return tiled_attention(*parts, s_aux, tiles, scores)[None], None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
