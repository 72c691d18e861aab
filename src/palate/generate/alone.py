"""Attention of one answer that is alone in the batch: its prompt's keys and its own in one row.

What the batch keeps in two parts is copied behind one another once, and then grows by a token a
step, so that one call of torch's own attention does a layer's work (docs/decisions.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from palate.generate.pool import Pool

_ROOM = 64


class Alone:
    """Keys and values [layers, kv heads, length, d] of the answer that `owner` names."""

    def __init__(self) -> None:
        self._owner: object = None
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._length = 0

    def begin(self, owner: object, prompts: Pool, answers: Pool, prompt: int, own: int) -> None:
        """Before a step of an answer with `own` keys below a prompt of `prompt`: both in row 0."""
        length = prompt + own
        if self._owner is not owner or self._length != length:
            self._owner, self._length = owner, length
            self._buffers = None
            self._grow(prompts, answers, prompt, own)
        elif self._buffers is not None and self._buffers[0].shape[2] == length:
            self._buffers = tuple(_longer(one) for one in self._buffers)  # type: ignore[assignment]
        self._length += 1

    def attend(
        self, layer: int, query_hd: Tensor, key_kd: Tensor, value_kd: Tensor, scale: float
    ) -> Tensor:
        """The attention of one layer, [heads, d]; the token's own key is added."""
        assert self._buffers is not None, "begun before"
        keys, values = (one[layer] for one in self._buffers)
        keys[:, self._length - 1] = key_kd
        values[:, self._length - 1] = value_kd
        out = functional.scaled_dot_product_attention(
            query_hd[None, :, None],
            keys[None, :, : self._length],
            values[None, :, : self._length],
            scale=scale,
            enable_gqa=query_hd.shape[0] != key_kd.shape[0],
        )
        return out[0, :, 0]

    def rest(self) -> None:
        """Forget the answer, and give the memory back."""
        self._owner, self._buffers, self._length = None, None, 0

    @property
    def bytes(self) -> int:
        """Memory that the buffers take."""
        return sum(buffer.nbytes for buffer in self._buffers or ())

    def _grow(self, prompts: Pool, answers: Pool, prompt: int, own: int) -> None:
        made = []
        for number, above in enumerate(prompts.buffers):
            parts = [above[:, 0, :, :prompt]]
            if own:
                parts.append(answers.buffers[number][:, 0, :, :own])
            made.append(_longer(torch.cat(parts, dim=2)))
        self._buffers = (made[0], made[1])


def _longer(old: Tensor) -> Tensor:
    """With room for more positions."""
    layers, heads, length, width = old.shape
    new = old.new_zeros(layers, heads, length + _ROOM, width)
    new[:, :, :length] = old
    return new
