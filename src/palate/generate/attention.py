"""Attention of answers over their prompt's keys, which they share, and over their own.

All answers to one prompt are one matrix against the prompt's keys; each answer's own keys are
another part. Either part is left unnormalised with its largest score and its sum, and the
whole is put together from the parts' log-sum-exp in fp32 (arXiv 2402.05099, section 3).

It is installed like the training engine's (`palate.model.attention`): through transformers'
attention interface, under a name that its mask interface does not know, so that no mask comes;
what a step needs travels as an argument of the model's forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from palate.model.tiles import Scores, products

SHARED_ATTENTION = "palate_shared"
# (query [heads, T, d], key and value [kv heads, T, d], scores, sinks) to [T, heads, e].
Attend = Callable[[Tensor, Tensor, Tensor, Scores, Tensor | None], Tensor]


def shared_attention(  # noqa: PLR0913 the signature is transformers'
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    attend: Attend | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer: query [1, heads, T, d] to [1, T, heads, e].

    Sliding windows are left out: only sequences that they do not cut come here.
    """
    assert attend is not None, "the step travels as an argument of the model's forward"
    assert attention_mask is None, "attention knows by itself who sees what"
    assert dropout == 0.0, "dropout is 0"
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = Scores(scale, softcap=softcap)
    return attend(query[0], key[0], value[0], scores, s_aux)[None], None


AttentionInterface.register(SHARED_ATTENTION, shared_attention)


Part = tuple[Tensor, Tensor, Tensor]  # Σ_k e^(s_k − m) v_k, m = max_k s_k, Σ_k e^(s_k − m)


def part(
    query_NMd: Tensor, key_NKd: Tensor, value_NKe: Tensor, mask: Tensor | None, scores: Scores
) -> Part:
    """Attention over some of the keys: ([N, M, e], [N, M, 1], [N, M, 1]), fp32.

    `mask` [A, K] is added to the scores, each of its rows to N / A of theirs.
    """
    with products(query_NMd.dtype), torch.autocast(query_NMd.device.type, enabled=False):
        s_NMK = _scores(query_NMd.to(key_NKd.dtype), key_NKd, scores.scale)
        if scores.softcap is not None:
            s_NMK = torch.tanh_(s_NMK.div_(scores.softcap)).mul_(scores.softcap)
        if mask is not None:
            s_NMK.view(len(mask), -1, mask.shape[-1]).add_(mask[:, None])
        most_NM1 = s_NMK.amax(dim=-1, keepdim=True)
        weight_NMK = s_NMK.sub_(most_NM1).exp_()
        total_NM1 = weight_NMK.sum(dim=-1, keepdim=True)
        return _product(weight_NMK.to(value_NKe.dtype), value_NKe), most_NM1, total_NM1


def together(parts: list[Part], sinks: Tensor | None = None) -> Tensor:
    """The attention over all keys, from parts of shape [B, heads, ·]; fp32 [B, heads, e].

    `sinks` [heads] are scores that weigh nothing (GPT-OSS).
    """
    most = torch.stack([m for _, m, _ in parts]).amax(dim=0)
    if sinks is not None:
        most = torch.maximum(most, sinks.float().view(1, -1, 1))
    shares = [(m - most).exp_() for _, m, _ in parts]
    total = sum(share * z for share, (_, _, z) in zip(shares, parts, strict=True))
    if sinks is not None:
        total = total + (sinks.float().view(1, -1, 1) - most).exp_()
    out = sum(share * o for share, (o, _, _) in zip(shares, parts, strict=True))
    assert isinstance(out, Tensor)
    return out / total


def _scores(query: Tensor, key: Tensor, scale: float) -> Tensor:
    if query.dtype == torch.float32:
        return torch.baddbmm(query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=scale)
    return _product(query, key.transpose(1, 2)).mul_(scale)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A product whose sums and result are fp32."""
    if left.dtype == torch.float32:
        return torch.bmm(left, right)
    return torch.bmm(left, right, out_dtype=torch.float32)  # half precision: only on a GPU
