"""The padded engine in the shape of the fast one: a batch is filled when the one before is done.

For models that the fast engine is not proved on. Answers leave a running batch at any step, but
none joins it, and all of a batch are answered under one adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Generic

import numpy as np
import torch

from palate.generate.engine import Draw, Uniforms
from palate.generate.padded import Rows
from palate.generate.plan import split_ids
from palate.generate.schedule import K, Schedule
from palate.model.many_adapters import ManyAdapters
from palate.model.policy import Policy


class Batches(Generic[K]):
    """See `palate.generate.engine.Engine`, whose methods these are."""

    def __init__(self, policy: Policy, draw: Draw[K], adapters: ManyAdapters | None = None) -> None:
        self._policy, self._draw, self._adapters = policy, draw, adapters
        self._vocabulary = policy.model.config.get_text_config().vocab_size
        self._rows: Rows | None = None
        self._which = 0

    def step(self, schedule: Schedule[K], uniforms: Uniforms[K]) -> bool:
        """Begin a batch if there is none; give each answer a token; False where there are none."""
        policy = self._policy
        policy.attend(policy.plain_attention)
        if self._rows is None:
            schedule.fill(uniforms)
            if not schedule.answers:
                return False
            split = [
                split_ids(np.array(answer.prompt.ids), self._vocabulary)
                for answer in schedule.answers
            ]
            found = {int(which[0]) for _, which in split}
            assert len(found) == 1, "a padded batch is answered under one adapter"
            self._which = found.pop()
            with policy.autocast(), self._under():
                self._rows = Rows(policy, [ids.tolist() for ids, _ in split], 1, nullcontext)
        else:
            last = [answer.ids[-1] for answer in schedule.answers]
            with policy.autocast(), self._under():
                self._rows.append(torch.tensor(last, device=policy.device))
        self._draw(schedule.answers, [self._rows.logits_BV.float()])
        return True

    def release(self, schedule: Schedule[K], done: Sequence[bool]) -> None:
        """Take the answers that are done out of the schedule and out of the batch."""
        moves, _ = schedule.release(done)
        if not schedule.answers:
            self._rows = None
        elif self._rows is not None and any(done):
            index = np.arange(len(schedule.answers))
            index[moves.to] = moves.source
            self._rows.keep(torch.from_numpy(index).to(self._policy.device))

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return 0 if self._rows is None else self._rows.bytes

    def rest(self) -> None:
        """Nothing is kept between batches."""

    def _under(self) -> Any:
        if self._adapters is None:
            return nullcontext()
        return self._adapters.rows(np.array([self._which]))
