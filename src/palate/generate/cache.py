"""A key-value cache with room to grow, so that a decoding step copies nothing.

transformers' dynamic cache concatenates the whole cache at every token. This layer
writes into space it took beforehand and hands out views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_ROOM = 64


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, [batch, kv heads, length, d], with `_ROOM` to spare."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append along the length; returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        total = used + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < total:
            self._buffers = (
                _grown(self.keys, key_states, used, total),
                _grown(self.values, value_states, used, total),
            )
        keys, values = self._buffers
        keys[:, :, used:total] = key_states
        values[:, :, used:total] = value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values

    def rows(self, index: Tensor) -> None:
        """Keep, drop or repeat batch rows: row i becomes what row `index[i]` was."""
        self.keys, self.values = self.keys[index], self.values[index]
        self._buffers = None


class RoomyCache(Cache):
    """A cache of `RoomyLayer`s, made as the model asks for them."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RoomyLayer)

    @property
    def bytes(self) -> int:
        """Memory that keys and values take, room to grow not counted."""
        layers = [one for one in self.layers if isinstance(one, RoomyLayer)]
        return sum(one.keys.nbytes + one.values.nbytes for one in layers)

    def rows(self, index: Tensor) -> None:
        """Keep, drop or repeat batch rows in every layer."""
        for layer in self.layers:
            assert isinstance(layer, RoomyLayer)
            layer.rows(index)


def _grown(old: Tensor, new: Tensor, used: int, total: int) -> Tensor:
    buffer = torch.empty(
        (*new.shape[:2], total + _ROOM, new.shape[3]), dtype=new.dtype, device=new.device
    )
    if used:
        buffer[:, :, :used] = old
    return buffer
