"""Who is in the batch: answers that are on their way, prompts whose keys are kept for them.

Both stand in rows without gaps, so that a decoding step reads whole tensors. What ends is
replaced at once: by another answer to a prompt that is there, which costs nothing, or by an
answer to the next prompt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Key = tuple[int, int]  # the prompt's number and the answer's


@dataclass(slots=True)
class Resident:
    """A prompt whose keys and values are in row `row`, and the answers it still owes."""

    ids: tuple[int, ...]
    row: int
    waiting: deque[Key]
    live: int = 0


@dataclass(slots=True)
class Answer:
    """An answer on its way; `uniforms` draw its tokens."""

    key: Key
    prompt: Resident
    uniforms: np.ndarray[Any, Any]
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


# Row `to[i]` becomes what row `source[i]` was.
@dataclass(frozen=True, slots=True)
class Moves:
    """Rows that take the places of others."""

    source: list[int]
    to: list[int]


class Schedule:
    """At most `batch_size` answers at once; new prompts of at most `prefill` tokens a step.

    `prompts` are distinct, each with the answers that it is to get. (One prompt is let in
    whatever its length.)
    """

    def __init__(
        self, prompts: Sequence[tuple[tuple[int, ...], list[Key]]], batch_size: int, prefill: int
    ) -> None:
        self._queue = deque(prompts)
        self._batch_size, self._prefill = batch_size, prefill
        self.answers: list[Answer] = []
        self.residents: list[Resident] = []

    def fill(self, uniforms: Any) -> list[Resident]:
        """Start answers in the free rows; returns the prompts that came in for them.

        `uniforms(prompt, answer)` makes an answer's uniform numbers. Answers that are new
        stand behind those that were there.
        """
        admitted: list[Resident] = []
        taken = 0
        open_ = deque(r for r in self.residents if r.waiting)
        while len(self.answers) < self._batch_size:
            if not open_:
                if not self._queue or (taken and taken + len(self._queue[0][0]) > self._prefill):
                    break
                ids, keys = self._queue.popleft()
                open_.append(Resident(ids, len(self.residents), deque(keys)))
                self.residents.append(open_[0])
                admitted.append(open_[0])
                taken += len(ids)
            prompt = open_[0]
            key = prompt.waiting.popleft()
            prompt.live += 1
            self.answers.append(Answer(key, prompt, uniforms(*key)))
            if not prompt.waiting:
                open_.popleft()
        return admitted

    def release(self, done: Sequence[bool]) -> tuple[Moves, Moves]:
        """Take out the answers that are done, and prompts that nobody needs any more.

        Returns how the rows of answers and of prompts move to close the gaps.
        """
        for answer, over in zip(self.answers, done, strict=True):
            answer.prompt.live -= over
        answers = _close(self.answers, [not over for over in done])
        prompts = _close(self.residents, [bool(r.live or r.waiting) for r in self.residents])
        for row in prompts.to:
            self.residents[row].row = row
        return answers, prompts


def _close(items: list[Any], keep: list[bool]) -> Moves:
    """Drop items in place: the last ones that stay take the places of those that go."""
    left = sum(keep)
    to = [i for i in range(left) if not keep[i]]
    source = [i for i in range(left, len(items)) if keep[i]]
    for a, b in zip(source, to, strict=True):
        items[b] = items[a]
    del items[left:]
    return Moves(source, to)
