"""Sampling from a policy: many prompts at once, their common beginning computed once.

Draws do not depend on how prompts are batched: answer k of prompt i has its own stream
of uniform numbers, a pure function of (seed, i, k), and each token is drawn by inverting
the cumulative distribution over the likeliest tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palate.generate.cache import RoomyCache
from palate.model.policy import Policy
from palate.tokens.tree import common_prefix

_MIN_SHARED = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: its ids, end-of-turn included where the answer `finished`."""

    ids: tuple[int, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw: temperature 0 is greedy, `top_k` 0 draws from the whole vocabulary."""

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int = 50
    seed: int = 0


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    n: int = 1,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda count: None,
) -> list[list[Sample]]:
    """`n` answers to each prompt, in the prompts' order.

    `prompts` are token ids that end where the answer begins. `advance` is told how many
    answers are done.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    policy.attend(policy.plain_attention)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    group = max(1, batch_size // n)
    answers: list[list[Sample]] = [[] for _ in prompts]
    for begin in range(0, len(order), group):
        chosen = order[begin : begin + group]
        uniforms = np.stack(
            [
                np.random.default_rng([sampling.seed, i, k]).random(sampling.max_new_tokens)
                for i in chosen
                for k in range(n)
            ]
        )
        with policy.autocast():
            found = _decode(policy, [prompts[i] for i in chosen], uniforms, sampling, end_ids, n)
        for place, index in enumerate(chosen):
            answers[index] = found[place * n : (place + 1) * n]
        advance(len(chosen) * n)
    return answers


def _decode(
    policy: Policy,
    prompts: list[Sequence[int]],
    uniforms: np.ndarray,
    sampling: Sampling,
    end_ids: Sequence[int],
    n: int,
) -> list[Sample]:
    """Answers to one batch of prompts, `n` to each, neighbours in the result."""
    device = policy.device
    cache = RoomyCache()
    logits_BV, mask_BL, position_B = prefill(policy, prompts, cache)
    rows = torch.arange(len(prompts), device=device).repeat_interleave(n)
    cache.rows(rows)
    logits_BV, mask_BL, position_B = logits_BV[rows], mask_BL[rows], position_B[rows]
    draws = torch.from_numpy(uniforms).to(device)
    ends = torch.tensor(list(end_ids), device=device)
    alive = torch.arange(len(rows), device=device)
    written: list[list[int]] = [[] for _ in rows]
    finished = [False] * len(rows)
    longest = most_positions(policy)
    for step in range(sampling.max_new_tokens):
        token_B = draw(logits_BV.float(), draws[alive, step], sampling)
        done_B = torch.isin(token_B, ends)
        for row, token, done in zip(alive.tolist(), token_B.tolist(), done_B.tolist(), strict=True):
            written[row].append(token)
            finished[row] = done
        keep = torch.nonzero(~done_B & (position_B + 1 < longest))[:, 0]
        if len(keep) == 0 or step + 1 == sampling.max_new_tokens:
            break
        if len(keep) < len(alive):
            cache.rows(keep)
            alive, token_B = alive[keep], token_B[keep]
            mask_BL, position_B = mask_BL[keep], position_B[keep]
        mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(alive), 1)], dim=1)
        logits_BV = forward(policy, token_B[:, None], mask_BL, position_B[:, None], cache)
        position_B = position_B + 1
    return [Sample(tuple(w), f) for w, f in zip(written, finished, strict=True)]


def most_positions(policy: Policy) -> int:
    """Tokens of prompt and answer that the model has positions for: answers end there."""
    text = policy.model.config.get_text_config()
    return getattr(text, "max_position_embeddings", None) or sys.maxsize


def prefill(
    policy: Policy, prompts: list[Sequence[int]], cache: RoomyCache
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill the cache with the prompts; their common beginning goes through the model once.

    The rest is padded on the left, between the common beginning and the prompt's own
    tokens: attention masks the gap, and positions are counted without it. Returns the
    next token's logits [B, V], the attention mask [B, L] and the next positions [B].
    """
    device = policy.device
    low, high = min(prompts, key=tuple), max(prompts, key=tuple)
    shared = min(common_prefix(low, high), min(len(p) for p in prompts) - 1)
    windowed = getattr(policy.model.config.get_text_config(), "sliding_window", None) is not None
    if len(prompts) == 1 or shared < _MIN_SHARED or windowed:
        shared = 0
    if shared:
        ids = torch.tensor([list(low[:shared])], device=device)
        steps = torch.arange(shared, device=device)[None]
        forward(policy, ids, torch.ones_like(ids), steps, cache)
        cache.rows(torch.zeros(len(prompts), dtype=torch.long, device=device))
    width = max(len(p) for p in prompts) - shared
    ids_BR = torch.zeros(len(prompts), width, dtype=torch.long)
    mask_BL = torch.zeros(len(prompts), shared + width, dtype=torch.long)
    mask_BL[:, :shared] = 1
    positions_BR = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        rest = torch.tensor(list(prompt[shared:]))
        ids_BR[row, width - len(rest) :] = rest
        mask_BL[row, shared + width - len(rest) :] = 1
        positions_BR[row, width - len(rest) :] = torch.arange(shared, len(prompt))
    mask_BL = mask_BL.to(device)
    logits = forward(policy, ids_BR.to(device), mask_BL, positions_BR.to(device), cache)
    return logits, mask_BL, torch.tensor([len(p) for p in prompts], device=device)


def forward(
    policy: Policy, ids: Tensor, mask: Tensor, positions: Tensor, cache: RoomyCache
) -> Tensor:
    """Logits of the last position, [B, V].

    Embeddings enter in the compute precision, so that keys and values stay in it: an
    fp32 residual would make autocast convert the whole cache at every token.
    """
    embedded = policy.model.get_input_embeddings()(ids)
    if policy.precision == "bf16":
        embedded = embedded.bfloat16()
    out = policy.model(
        inputs_embeds=embedded,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = out.logits[:, -1]
    return logits


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> Tensor:
    """One token for each row, [B]."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    size = logits_BV.shape[-1]
    kept = size if sampling.top_k == 0 else min(sampling.top_k, size)
    top_BK, token_BK = logits_BV.topk(kept, dim=-1)
    weights_BK = (top_BK.double() / sampling.temperature).softmax(dim=-1).cumsum(dim=-1)
    index_B = torch.searchsorted(weights_BK, uniform_B[:, None].to(weights_BK), right=True)
    return token_BK.gather(1, index_B.clamp(max=kept - 1))[:, 0]
