"""One copy of some weights, and all that is answered with it.

Requests join and leave between two steps. A request is let in when there is a free row for each
of its choices, and memory for the longest that they may become: nobody is put out again.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from palate.generate.batches import Batches
from palate.generate.choice import why_padded
from palate.generate.engine import Engine
from palate.generate.padded import most_positions
from palate.generate.schedule import Schedule
from palate.model.many_adapters import ManyAdapters
from palate.model.policy import Policy
from palate.serve.drawing import draw_each
from palate.serve.job import FAILED, Choice, Job
from palate.serve.text import Piece

# Tokens of prompts that come in with one step: each step's answers wait for them.
_PREFILL = 1024
_ROOM = 64  # positions by which the engine's rows grow
_MOST = 2**18  # positions of a model that names no limit

Told = tuple[Job, Piece]


class Lane:
    """The answers under way on one policy, at most `rows`; `memory` in bytes."""

    def __init__(
        self, policy: Policy, rows: int, memory: int, adapters: ManyAdapters | None = None
    ) -> None:
        self.policy, self.rows, self.adapters = policy, rows, adapters
        self.limit = min(most_positions(policy), _MOST)
        self.why_padded = why_padded(policy, self.limit)
        self.vocabulary: int = policy.model.config.get_text_config().vocab_size
        self.room = max(1, memory // _bytes_a_position(policy))
        """Positions of keys and values that there is memory for."""
        self.waiting: deque[Job] = deque()
        self._inside: list[Choice] = []
        self._begin()

    def _begin(self) -> None:
        """An empty batch."""
        self._schedule: Schedule[Choice] = Schedule([], self.rows, _PREFILL)
        self._engine: Engine[Choice] | Batches[Choice]
        if self.why_padded is None:
            self._engine = Engine(self.policy, self.rows, draw_each, adapters=self.adapters)
        else:
            self._engine = Batches(self.policy, draw_each, self.adapters)
        self._shape = (0, 0, 0, 0)
        self._inside.clear()

    @property
    def running(self) -> int:
        """Choices that are on their way."""
        return len(self._inside)

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return self._engine.bytes

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self._inside or self.waiting)

    def fits_alone(self, prompt: int, most: int, n: int) -> bool:
        """Whether a request could ever be let in: tokens of its prompt and of each choice."""
        return n <= self.rows and _size(self._grown((0, 0, 0, 0), prompt, most, n, 1)) <= self.room

    def step(self) -> list[Told]:
        """Let requests leave and join, then one token for every answer; what there is to tell."""
        self._leave()
        self._join()
        if not self._inside:
            return []
        self._engine.step(self._schedule, Choice.uniforms)
        told: list[Told] = []
        done = []
        for answer in self._schedule.answers:
            choice = answer.key
            piece = choice.take()
            if piece is not None:
                told.append((choice.job, piece))
            done.append(choice.finish is not None)
        self._release(done)
        return told

    def fail(self) -> list[Told]:
        """Give up all that runs; what waits goes on."""
        failed = [(choice.job, Piece(choice.index, "", [], FAILED)) for choice in self._inside]
        self._begin()
        return failed

    def rest(self) -> None:
        """Give the memory back; only while nothing is on its way."""
        self._engine.rest()
        self._shape = (0, 0, 0, 0)

    def _leave(self) -> None:
        if any(job.gone for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if not job.gone)
        if any(choice.job.gone for choice in self._inside):
            self._schedule.drop(lambda choice: choice.job.gone)
            self._release([answer.key.job.gone for answer in self._schedule.answers])

    def _release(self, done: list[bool]) -> None:
        if any(done):
            self._inside = [one for one in self._inside if one.finish is None and not one.job.gone]
        self._engine.release(self._schedule, done)

    def _join(self) -> None:
        while self.waiting and self._admits(self.waiting[0]):
            job = self.waiting.popleft()
            self._inside += job.choices
            self._schedule.add(job.ids, list(job.choices))

    def _admits(self, job: Job) -> bool:
        n = len(job.choices)
        if len(self._inside) + n > self.rows:
            return False
        if self.why_padded is not None and not self._joins_batch(job):
            return False
        prompts = len({id(choice.job) for choice in self._inside}) + 1
        most = job.choices[0].sampling.max_new_tokens
        answers = len(self._inside) + n
        shape = self._grown(self._shape, len(job.ids), most, answers, prompts)
        if _size(shape) > self.room:
            if self._inside:
                return False
            self.rest()
            shape = self._grown((0, 0, 0, 0), len(job.ids), most, answers, prompts)
        self._shape = shape
        return True

    def _joins_batch(self, job: Job) -> bool:
        """Padded batches are begun whole, and each under one adapter."""
        if any(choice.count for choice in self._inside):
            return False
        first = self._inside[0].job if self._inside else job
        return first.ids[0] // self.vocabulary == job.ids[0] // self.vocabulary

    def _grown(
        self, shape: tuple[int, int, int, int], prompt: int, most: int, answers: int, prompts: int
    ) -> tuple[int, int, int, int]:
        """Rows and lengths of answers, and of prompts, that the engine will have reserved."""
        wanted = (_more(answers), -(-most // _ROOM) * _ROOM, _more(prompts), prompt)
        grown = [max(a, b) for a, b in zip(shape, wanted, strict=True)]
        return min(grown[0], self.rows), grown[1], min(grown[2], self.rows), grown[3]


def _size(shape: tuple[int, int, int, int]) -> int:
    return shape[0] * shape[1] + shape[2] * shape[3]


def _more(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


def _bytes_a_position(policy: Policy) -> int:
    """Keys and values of one token in all layers: fp32 on a CPU, as the pools hold them there."""
    config: Any = policy.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = 4 if policy.device.type == "cpu" or policy.precision == "fp32" else 2
    return int(2 * config.num_hidden_layers * heads * width * size)
