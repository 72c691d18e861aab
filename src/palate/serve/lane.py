"""One copy of some weights, and all that is answered with it.

Requests join and leave between two steps. A request is let in when there is a free row for each
of its choices, and memory for the longest that they may become: nobody is put out again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
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
        return n <= self.rows and self._fits(self._grown((0, 0, 0, 0), prompt, most, n, 1))

    def step(self) -> list[Told]:
        """Let requests leave and join, then one token for every answer; what there is to tell."""
        self._leave()
        told = self._join()
        if not self._inside:
            return told
        self._engine.step(self._schedule, Choice.uniforms)
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
        failed = _failed(self._inside)
        self._begin()
        return failed

    def rest(self) -> None:
        """Give the memory back; only while nothing is on its way."""
        self._engine.rest()
        self._shape = (0, 0, 0, 0)

    def _leave(self) -> None:
        # `gone` is set at any moment by another thread: it is read once, so that all that is
        # kept of a job goes together.
        jobs = [*self.waiting, *(choice.job for choice in self._inside)]
        gone = {id(job) for job in jobs if job.gone}
        if not gone:
            return
        self.waiting = deque(job for job in self.waiting if id(job) not in gone)
        self._schedule.drop(lambda choice: id(choice.job) in gone)
        begun = {id(answer.key) for answer in self._schedule.answers}
        self._inside = [one for one in self._inside if id(one) in begun or id(one.job) not in gone]
        self._release([id(answer.key.job) in gone for answer in self._schedule.answers])

    def _release(self, done: list[bool]) -> None:
        if any(done):
            answers = zip(self._schedule.answers, done, strict=True)
            over = {id(answer.key) for answer, ended in answers if ended}
            self._inside = [one for one in self._inside if id(one) not in over]
        self._engine.release(self._schedule, done)

    def _join(self) -> list[Told]:
        """Let in who fits, in their order; what there is to tell of those who cannot be."""
        told: list[Told] = []
        while self.waiting:
            job = self.waiting[0]
            try:
                if not self._admits(job):
                    break
            except Exception:  # noqa: BLE001 - it fails alone, and holds up nobody behind it
                self.waiting.popleft()
                told += _failed(job.choices)
                continue
            self.waiting.popleft()
            self._inside += job.choices
            self._schedule.add(job.ids, list(job.choices))
        return told

    def _admits(self, job: Job) -> bool:
        if not job.ids:
            raise ValueError("a prompt needs at least one token")
        n = len(job.choices)
        if len(self._inside) + n > self.rows:
            return False
        if self.why_padded is not None:
            if not self._joins_batch(job):
                return False
            if not self._inside:  # nothing is kept of the batch before
                self._shape = (0, 0, 0, 0)
        prompts = len({id(choice.job) for choice in self._inside}) + 1
        most = job.choices[0].sampling.max_new_tokens
        answers = len(self._inside) + n
        shape = self._grown(self._shape, len(job.ids), most, answers, prompts)
        if not self._fits(shape):
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

    def _fits(self, shape: tuple[int, int, int, int]) -> bool:
        answers, most, prompts, prompt = shape
        if self.why_padded is not None:  # each answer has its prompt's keys for itself
            return answers * (prompt + most) <= self.room
        return answers * most + prompts * prompt <= self.room


def _failed(choices: Iterable[Choice]) -> list[Told]:
    return [(choice.job, Piece(choice.index, "", [], FAILED)) for choice in choices]


def _more(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


def _bytes_a_position(policy: Policy) -> int:
    """Keys and values of one token in all layers: fp32 on a CPU, as the pools hold them there."""
    config: Any = policy.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = 4 if policy.device.type == "cpu" or policy.precision == "fp32" else 2
    return int(2 * config.num_hidden_layers * heads * width * size)
