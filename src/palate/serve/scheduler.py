"""The thread that computes: between two steps requests join and leave (arXiv Orca, OSDI 2022).

The event loop hands jobs over and never waits for a forward; the thread hands back what every
step has to tell in one call.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread

import torch

from palate.serve.job import Job
from palate.serve.lane import Lane, Told
from palate.serve.refusal import Refused

_IDLE = 20.0  # seconds after which an idle server gives its memory back


class Scheduler(Thread):
    """Steps its lanes in turn while there is work. `tell` may be called from this thread.

    At most `queue` requests wait, beside those that there are free rows for. `say` gets a line
    when a step fails.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        queue: int,
        tell: Callable[[list[Told]], None],
        say: Callable[[str], None],
        idle: float = _IDLE,
    ) -> None:
        super().__init__(name="scheduler", daemon=True)
        self._lanes, self._queue, self._tell, self._say = tuple(lanes), queue, tell, say
        self._idle = idle
        self._changed = Condition()
        self._inbox: deque[tuple[Lane, Job]] = deque()
        self._closing = False
        self.steps = 0

    def submit(self, lane: Lane, job: Job) -> None:
        """Queue a job; raises `Refused` when the queue is full."""
        with self._changed:
            if self.waiting >= self._queue and not self._has_rows(lane, job):
                raise Refused(
                    429,
                    f"{self._queue} requests wait already: try again in a moment",
                    code="queue_full",
                    retry_after=1,
                )
            self._inbox.append((lane, job))
            self._changed.notify()

    def _has_rows(self, lane: Lane, job: Job) -> bool:
        """Whether it need not wait: there are rows for it and for all before it."""
        before = [*lane.waiting, *(other for where, other in self._inbox if where is lane)]
        wanted = sum(len(one.choices) for one in [*before, job])
        return lane.running + wanted <= lane.rows

    def leave(self, job: Job) -> None:
        """Nobody wants this job's answer any more: its rows are free before the next step."""
        job.gone = True
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the step that it is in."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Requests that have no row yet."""
        return len(self._inbox) + sum(len(lane.waiting) for lane in self._lanes)

    @property
    def running(self) -> int:
        """Choices that are on their way."""
        return sum(lane.running for lane in self._lanes)

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return sum(lane.bytes for lane in self._lanes)

    @torch.no_grad()
    def run(self) -> None:
        """Until `close`."""
        while self._gather():
            for lane in self._lanes:
                if lane.busy:
                    self._step(lane)

    def _gather(self) -> bool:
        """Wait for work and sort it; False to end."""
        with self._changed:
            while not (self._closing or self._inbox or any(lane.busy for lane in self._lanes)):
                if not self._changed.wait(self._idle):
                    for lane in self._lanes:
                        lane.rest()
            while self._inbox:
                lane, job = self._inbox.popleft()
                lane.waiting.append(job)
            return not self._closing

    def _step(self, lane: Lane) -> None:
        try:
            told = lane.step()
        except Exception as error:  # noqa: BLE001 - one batch fails, the server goes on
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._say(
                f"a batch failed: {type(error).__name__} in {where.filename}, line {where.lineno}"
            )
            told = lane.fail()
        self.steps += 1
        if told:
            self._tell(told)
