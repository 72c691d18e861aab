"""Who is in the batch: answers that are on their way, prompts whose keys are kept for them.

Both stand in rows without gaps, so that a decoding step reads whole tensors. What ends is
replaced at once: by another answer to a prompt that is there, which costs nothing, or by an
answer to the next prompt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

K = TypeVar("K")  # what names an answer to its owner
Key = tuple[int, int]  # the prompt's number and the answer's


@dataclass(slots=True)
class Resident(Generic[K]):
    """A prompt whose keys and values are in row `row`, and the answers it still owes.

    Its ids may be shifted, see `palate.generate.plan.split_ids`.
    """

    ids: tuple[int, ...]
    row: int
    waiting: deque[K]
    live: int = 0


@dataclass(slots=True)
class Answer(Generic[K]):
    """An answer on its way; `uniforms` draw its tokens."""

    key: K
    prompt: Resident[K]
    uniforms: np.ndarray[Any, Any]
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


# Row `to[i]` becomes what row `source[i]` was.
@dataclass(frozen=True, slots=True)
class Moves:
    """Rows that take the places of others."""

    source: list[int]
    to: list[int]


class Schedule(Generic[K]):
    """At most `batch_size` answers at once; new prompts of at most `prefill` tokens a step.

    `prompts` come first, each with the answers that it is to get; more may be added at any
    time. (One prompt is let in whatever its length.)
    """

    def __init__(
        self, prompts: Sequence[tuple[tuple[int, ...], list[K]]], batch_size: int, prefill: int
    ) -> None:
        self._queue = deque(prompts)
        self._batch_size, self._prefill = batch_size, prefill
        self.answers: list[Answer[K]] = []
        self.residents: list[Resident[K]] = []

    def add(self, ids: tuple[int, ...], keys: list[K]) -> None:
        """One more prompt, behind the others, with the answers that it is to get."""
        self._queue.append((ids, keys))

    def drop(self, unwanted: Callable[[K], bool]) -> None:
        """Forget answers that have not begun; `release` then frees what nobody waits for."""
        kept = ((ids, [key for key in keys if not unwanted(key)]) for ids, keys in self._queue)
        self._queue = deque((ids, keys) for ids, keys in kept if keys)
        for resident in self.residents:
            resident.waiting = deque(key for key in resident.waiting if not unwanted(key))

    @property
    def queued(self) -> bool:
        """Whether a prompt waits that has no row yet."""
        return bool(self._queue)

    def fill(self, uniforms: Callable[[K], np.ndarray[Any, Any]]) -> list[Resident[K]]:
        """Start answers in the free rows; returns the prompts that came in for them.

        `uniforms(key)` makes an answer's uniform numbers. Answers that are new stand behind
        those that were there.
        """
        admitted: list[Resident[K]] = []
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
            self.answers.append(Answer(key, prompt, uniforms(key)))
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
