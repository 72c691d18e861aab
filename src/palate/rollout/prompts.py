"""Whose turn it is: the order of prompts is a pure function of the seed."""

from __future__ import annotations

import numpy as np

_STREAM = 0x70726F6D  # apart from the order of given data, which is drawn from (seed, epoch)


class PromptOrder:
    """Every prompt once an epoch, each epoch in an order of its own."""

    def __init__(self, count: int, seed: int) -> None:
        if count < 1:
            raise ValueError("there is no prompt to answer: the training split is empty")
        self.count, self.seed = count, seed
        self._epoch: tuple[int, list[int]] = (-1, [])

    def take(self, first: int, size: int) -> list[int]:
        """Rows of the `size` prompts from place `first` on, counted over all epochs."""
        return [self._at(place) for place in range(first, first + size)]

    def _at(self, place: int) -> int:
        epoch, within = divmod(place, self.count)
        if self._epoch[0] != epoch:
            draw = np.random.default_rng([_STREAM, self.seed, epoch])
            self._epoch = (epoch, draw.permutation(self.count).tolist())
        return self._epoch[1][within]
