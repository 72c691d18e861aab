"""The loop that offline sampling and the server share: one token for every answer in a batch.

A step is one forward of each view of the weights. In it the answers that are on their way get
their next token, and prompts that come in are computed beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from palate.generate.decoder import Decoder, prepare
from palate.generate.draw import View
from palate.generate.plan import plan_incoming, plan_running, weights_of
from palate.generate.schedule import Answer, K, Schedule
from palate.model.many_adapters import ManyAdapters
from palate.model.policy import Policy

Draw = Callable[[Sequence[Answer[K]], list[Tensor]], None]
"""Gives each answer its token, from logits [B, V] of each view: `ids` and `logps` grow by one."""
Uniforms = Callable[[K], "np.ndarray[Any, Any]"]


class Engine(Generic[K]):
    """Keys, values and prompts of the answers of one schedule.

    With `adapters`, the ids of a prompt say under which of them it is answered, see
    `palate.generate.plan.split_ids`. `views` are not combined with `adapters`.
    """

    def __init__(
        self,
        policy: Policy,
        batch_size: int,
        draw: Draw[K],
        views: Sequence[View] = (nullcontext,),
        adapters: ManyAdapters | None = None,
    ) -> None:
        self._policy, self._draw, self._adapters = policy, draw, adapters
        self._vocabulary = policy.model.config.get_text_config().vocab_size
        self._sides = [Decoder(policy, view, batch_size) for view in views]
        self._kept: dict[int, np.ndarray[Any, Any]] = {}

    def step(self, schedule: Schedule[K], uniforms: Uniforms[K]) -> bool:
        """Fill the batch, and give each of its answers a token; False where there are none."""
        before, residents = len(schedule.answers), len(schedule.residents)
        admitted = schedule.fill(uniforms)
        if not schedule.answers:
            return False
        prepare(self._policy)
        device, vocabulary = self._policy.device, self._vocabulary
        running = incoming = None
        if before:
            settled = schedule.residents[:residents]
            running = plan_running(schedule.answers[:before], settled, device)
        if admitted:
            incoming = plan_incoming(admitted, self._kept, vocabulary, device)
            self._kept.update({prompt.row: np.array(prompt.ids) for prompt in admitted})
        fresh = [answer.prompt.row for answer in schedule.answers[before:]]
        which = weights_of(schedule.answers[:before], incoming, vocabulary)
        logits = []
        for side in self._sides:
            parts: list[Tensor] = []
            if running is not None or incoming is not None:
                with nullcontext() if self._adapters is None else self._adapters.rows(which):
                    following = side.forward(running, incoming)
                parts += [] if following is None else [following]
            parts += [side.first(fresh)] if fresh else []
            logits.append(torch.cat(parts))
        self._draw(schedule.answers, logits)
        return True

    def release(self, schedule: Schedule[K], done: Sequence[bool]) -> None:
        """Take the answers that are done out of the schedule and of every pool."""
        answers, prompts = schedule.release(done)
        for side in self._sides:
            side.move(answers, prompts, len(schedule.residents))
        for source, to in zip(prompts.source, prompts.to, strict=True):
            self._kept[to] = self._kept[source]

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return sum(side.bytes for side in self._sides)

    def rest(self) -> None:
        """Give the memory of keys and values back; only while no answer is on its way."""
        for side in self._sides:
            side.rest()
        self._kept.clear()
