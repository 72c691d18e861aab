"""Decoding padded batches through transformers' own attention: for any causal language model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from palate.generate.cache import RoomyCache
from palate.generate.draw import Mixture, Sample, Sampling, View, pick, views
from palate.model.policy import Policy
from palate.tokens.tree import common_prefix

_MIN_SHARED = 16


def padded(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    n: int,
    batch_size: int,
    advance: Callable[[int], None],
    mixture: Mixture | None,
) -> list[list[Sample]]:
    """`n` answers to each prompt, in the prompts' order; see `palate.generate.sampling.sample`.

    `batch_size` is rounded down to whole prompts, but one prompt's answers stay together.
    """
    policy.attend(policy.plain_attention)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    group = max(1, batch_size // n)
    answers: list[list[Sample]] = [[] for _ in prompts]
    for begin in range(0, len(order), group):
        chosen = order[begin : begin + group]
        uniforms = np.stack([sampling.uniforms(i, k) for i in chosen for k in range(n)])
        rows = [prompts[i] for i in chosen]
        with policy.autocast():
            found = decode(policy, rows, uniforms, sampling, end_ids, n, mixture)
        for place, index in enumerate(chosen):
            answers[index] = found[place * n : (place + 1) * n]
        advance(len(chosen) * n)
    return answers


class Rows:
    """A batch of answers on their way, seen through one `view` of the policy's weights.

    `logits_BV` are those of the next token, `position_B` is its place.
    """

    def __init__(self, policy: Policy, prompts: list[Sequence[int]], n: int, view: View) -> None:
        self._policy, self._view = policy, view
        self._cache = RoomyCache()
        with view():
            self.logits_BV, self._mask_BL, self.position_B = prefill(policy, prompts, self._cache)
        self.keep(torch.arange(len(prompts), device=policy.device).repeat_interleave(n))

    def keep(self, index: Tensor) -> None:
        """Row i becomes what row `index[i]` was."""
        self._cache.rows(index)
        self.logits_BV = self.logits_BV[index]
        self._mask_BL, self.position_B = self._mask_BL[index], self.position_B[index]

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return self._cache.bytes

    def append(self, token_B: Tensor) -> None:
        """Add a token to each row."""
        ones_B1 = self._mask_BL.new_ones(len(token_B), 1)
        self._mask_BL = torch.cat([self._mask_BL, ones_B1], dim=1)
        with self._view():
            self.logits_BV = forward(
                self._policy, token_B[:, None], self._mask_BL, self.position_B[:, None], self._cache
            )
        self.position_B = self.position_B + 1


def decode(
    policy: Policy,
    prompts: list[Sequence[int]],
    uniforms: np.ndarray,
    sampling: Sampling,
    end_ids: Sequence[int],
    n: int,
    mixture: Mixture | None = None,
) -> list[Sample]:
    """Answers to one batch of prompts, `n` to each, neighbours in the result."""
    device = policy.device
    sides = [Rows(policy, prompts, n, view) for view in views(mixture)]
    weight = mixture.weight if mixture else 0.0
    draws = torch.from_numpy(uniforms).to(device)
    ends = torch.tensor(list(end_ids), device=device)
    alive = torch.arange(len(uniforms), device=device)
    written: list[list[int]] = [[] for _ in uniforms]
    logps: list[list[float]] = [[] for _ in uniforms]
    finished = [False] * len(uniforms)
    longest = most_positions(policy)
    for step in range(sampling.max_new_tokens):
        logits = [side.logits_BV for side in sides]
        token_B, logp_B = pick(logits, draws[alive, step], sampling, weight)
        done_B = torch.isin(token_B, ends)
        columns = (alive.tolist(), token_B.tolist(), logp_B.tolist(), done_B.tolist())
        for row, token, logp, done in zip(*columns, strict=True):
            written[row].append(token)
            logps[row].append(logp)
            finished[row] = done
        keep = torch.nonzero(~done_B & (sides[0].position_B + 1 < longest))[:, 0]
        if len(keep) == 0 or step + 1 == sampling.max_new_tokens:
            break
        for side in sides:
            if len(keep) < len(alive):
                side.keep(keep)
            side.append(token_B[keep])
        alive = alive[keep]
    return [Sample(tuple(w), f, tuple(p)) for w, f, p in zip(written, finished, logps, strict=True)]


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
