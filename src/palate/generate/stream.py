"""Streaming: one answer token by token, and its text as soon as characters are whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from palate.generate.cache import RoomyCache
from palate.generate.draw import Sampling, draw
from palate.generate.padded import forward, most_positions, prefill
from palate.model.policy import Policy

_BROKEN = "\ufffd"


@torch.no_grad()
def stream_ids(
    policy: Policy,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    answer: int = 0,
) -> Iterator[int]:
    """The tokens of one answer as they are drawn, the one that ends it included.

    Answer k has the same stream of uniform numbers as answer k to the first prompt of
    `palate.generate.sampling.sample`, so both give the same tokens.
    """
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    policy.attend(policy.plain_attention)
    device = policy.device
    draws = torch.from_numpy(sampling.uniforms(0, answer)).to(device)
    ends = set(end_ids)
    cache = RoomyCache()
    # The context is entered for each call: left open, it would reach the caller at a yield.
    with policy.autocast():
        logits_BV, mask_BL, position_B = prefill(policy, [prompt], cache)
    for step in range(sampling.max_new_tokens):
        token_B = draw(logits_BV.float(), draws[step : step + 1], sampling)
        token = int(token_B)
        yield token
        if token in ends or step + 1 == sampling.max_new_tokens:
            return
        if int(position_B) + 1 >= most_positions(policy):
            return
        mask_BL = torch.cat([mask_BL, mask_BL.new_ones(1, 1)], dim=1)
        with policy.autocast():
            logits_BV = forward(policy, token_B[:, None], mask_BL, position_B[:, None], cache)
        position_B = position_B + 1


class TextStream:
    """Token ids in, text out: what can no longer change comes out at once.

    A character may take several tokens; its pieces are held back until it is whole. All
    pieces joined, with `finish`, are what decoding all tokens at once gives. Only the last
    few tokens are decoded anew for each one, with those before them as context, because
    some tokenizers write a token differently at the beginning of a text.
    """

    def __init__(self, tokenizer: Any, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._ids: list[int] = []
        self._context = 0
        self._said = 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._ids.append(token)
        text = self._fresh()
        if not text or text.endswith(_BROKEN):
            return ""
        self._context, self._said = self._said, len(self._ids)
        return text

    def finish(self) -> str:
        """What was held back, broken characters as U+FFFD."""
        text = self._fresh()
        self._context, self._said = self._said, len(self._ids)
        return text

    def _fresh(self) -> str:
        before = self._decode(self._ids[self._context : self._said])
        return self._decode(self._ids[self._context :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=self._skip_special, clean_up_tokenization_spaces=False
        )
        return text


def printable(text: str) -> str:
    """The text without control characters, which could command a terminal; breaks and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or not _is_control(ord(c)))


def _is_control(point: int) -> bool:
    return point < 0x20 or 0x7F <= point < 0xA0
