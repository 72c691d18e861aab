"""The reference of an online run: the weights it began with, or those of an iterate since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from palate.model.adapters import trainable
from palate.model.policy import Policy
from palate.train.setup import Learner


class IterateReference:
    """The policy itself, with other weights in the place of those that are trained.

    Of an adapter the first reference is the policy without it. `refresh` makes the present
    weights the reference.
    """

    def __init__(self, learner: Learner) -> None:
        self.policy: Policy = learner.policy
        self._switch = learner.switch
        self._weights = trainable(learner.policy)
        self._iterate: dict[str, Tensor] | None = None
        self._fresh = False
        if learner.adapted is None:
            self._iterate = self._copy()

    @contextmanager
    def switched(self) -> Iterator[None]:
        """The policy is the reference meanwhile."""
        if self._iterate is None:
            with self._switch():
                yield
            return
        own = self._copy()
        self._put(self._iterate)
        try:
            yield
        finally:
            self._put(own)

    def refresh(self) -> None:
        """From now on the reference is the policy as it is."""
        self._iterate, self._fresh = self._copy(), True

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: nothing while the reference is the first."""
        return dict(self._iterate or {}) if self._fresh else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's `state`."""
        if state:
            device = self.policy.device
            self._iterate = {name: value.to(device) for name, value in state.items()}
            self._fresh = True

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
