"""Keys and values of all layers in rows that are reused: one tensor each, which grows."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.generate.schedule import Moves


class Pool:
    """Rows of keys and values: [layers, rows, kv heads, length, d], made at the first write.

    A row holds one sequence from its beginning; what lies behind its length is garbage.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._rows, self._length = 0, 0

    def reserve(self, rows: int, length: int) -> None:
        """Room for so many rows of that length at least; what is there stays."""
        self._rows, self._length = max(self._rows, rows), max(self._length, length)
        if self._buffers is not None:
            self._buffers = (self._grown(self._buffers[0]), self._grown(self._buffers[1]))

    def write(
        self, layer: int, row_R: Tensor, position_R: Tensor, key_RKd: Tensor, value_RKd: Tensor
    ) -> None:
        """Put keys and values [R, kv heads, d] at (row, position)."""
        if self._buffers is None:
            self._buffers = (self._new(key_RKd), self._new(value_RKd))
        keys, values = self._buffers
        keys[layer][row_R, :, position_R] = key_RKd.to(keys.dtype)
        values[layer][row_R, :, position_R] = value_RKd.to(values.dtype)

    def put(self, layer: int, row: int, position: int, key_kd: Tensor, value_kd: Tensor) -> None:
        """`write` of one key and value, without tensors of indices."""
        if self._buffers is None:
            self._buffers = (self._new(key_kd[None]), self._new(value_kd[None]))
        self._buffers[0][layer, row, :, position] = key_kd
        self._buffers[1][layer, row, :, position] = value_kd

    def read(self, layer: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first rows and positions: views [rows · kv heads, length, d]."""
        keys, values = self.buffers
        return (
            keys[layer, :rows, :, :length].flatten(0, 1),
            values[layer, :rows, :, :length].flatten(0, 1),
        )

    def gather(self, layer: int, row_R: Tensor, position_R: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the keys and values at (row, position), [R, kv heads, d]."""
        keys, values = self.buffers
        return keys[layer][row_R, :, position_R], values[layer][row_R, :, position_R]

    def move(self, moves: Moves) -> None:
        """Let rows take the places of others, in every layer.

        A source beyond the pool's rows holds nothing yet: an answer that has one token.
        """
        if self._buffers is None:
            return
        pairs = [(a, b) for a, b in zip(moves.source, moves.to, strict=True) if a < self._rows]
        if pairs:
            source, to = zip(*pairs, strict=True)
            for buffer in self._buffers:
                buffer[:, to] = buffer[:, source]

    @property
    def bytes(self) -> int:
        """Memory that the buffers take; 0 before the first write."""
        return sum(buffer.nbytes for buffer in self._buffers or ())

    @property
    def buffers(self) -> tuple[Tensor, Tensor]:
        """All keys and all values."""
        assert self._buffers is not None, "read after the first write"
        return self._buffers

    def _new(self, like_RKd: Tensor) -> Tensor:
        """Memory for what is reserved; on a CPU in fp32, as there products of fp32 are fast."""
        heads, width = like_RKd.shape[1:]
        dtype = like_RKd.dtype
        if like_RKd.device.type == "cpu":
            dtype = torch.promote_types(dtype, torch.float32)
        shape = (self._layers, self._rows, heads, self._length, width)
        # Zeros, because garbage that is masked must not be NaN where it is multiplied by 0.
        return torch.zeros(shape, dtype=dtype, device=like_RKd.device)

    def _grown(self, old: Tensor) -> Tensor:
        layers, rows, heads, length, width = old.shape
        if rows >= self._rows and length >= self._length:
            return old
        new = old.new_zeros(layers, self._rows, heads, self._length, width)
        new[:, :rows, :, :length] = old
        return new
