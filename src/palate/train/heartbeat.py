"""Signs of life between ranks, from threads beside the training.

Each rank counts in the rendezvous store and watches the count of the next one, in a ring: of any
ranks that die, one at least has a living neighbour. A rank that computes alone for hours counts; a
process that is stopped or gone does not. One whose main thread stands still counts as well: that
is noticed by the collective which waits for it.

Nothing here waits for the main thread, which may be inside an exchange that never ends. What must
end, ends the process: the run's folder is as safe then as when the process is killed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import NoReturn

from torch.distributed.distributed_c10d import Store

EXIT_CODE = 2
WITHOUT_A_WORD = (
    "another rank ended without a word: see what became of it above, and continue with resume=auto"
)
# Between two counts: a twentieth of the patience, within bounds.
_SHORTEST, _LONGEST, _PART = 0.05, 5.0, 20
# How long a rank may take to end by itself, once it or another has failed.
_GRACE_SECONDS = 10.0
# What a rank counts up by when it leaves in order: it is not missed.
_LEFT = 1 << 40


class Heartbeat:
    """Counts for this rank and watches the next, until `stop` or the end of the process.

    `store` needs a connection of its own: one that waits would keep the others' words back.
    `patience` are the seconds of silence after which a rank counts as lost.
    """

    def __init__(self, store: Store, rank: int, world: int, patience: float) -> None:
        self.store, self.rank, self.next = store, rank, (rank + 1) % world
        self.patience, self.grace = patience, min(_GRACE_SECONDS, patience)
        self.interval = min(_LONGEST, max(_SHORTEST, patience / _PART))
        self.heard = time.monotonic()  # when the store answered last
        self.gone = False  # whether the store is: a connection that breaks is no silence
        self.failed_at: float | None = None  # when this rank learned that the run has failed
        self._over = threading.Event()
        self._speech = threading.Lock()
        self._spoken = False  # whether somebody has said why, or has been given the word to
        self._threads = [
            threading.Thread(target=work, name=f"palate-{work.__name__}", daemon=True)
            for work in (self._count, self._watch)
        ]

    def start(self) -> None:
        """Begin to count and to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave in order: nobody misses this rank from now on."""
        self._over.set()
        for thread in self._threads:
            thread.join(self.grace)
        with contextlib.suppress(RuntimeError, OSError):
            self.store.add(_key(self.rank), _LEFT)

    def failing(self) -> None:
        """The run has failed: the process ends, within the grace, whatever its main thread does."""
        if self.failed_at is None:
            self.failed_at = time.monotonic()

    def claim(self) -> bool:
        """Whether this call is the one that may say why the run failed: the first of all ranks'."""
        self.failing()
        with self._speech:
            if self._spoken:
                return False
            mine = str(self.rank)
            try:
                return self.store.compare_set("failed", "", mine) == mine.encode()
            finally:
                self._spoken = True

    def _count(self) -> None:
        """The thread that talks to the store."""
        seen, since = -1, time.monotonic()
        while not self._over.wait(self.interval):
            try:
                self.store.add(_key(self.rank), 1)
                theirs = self.store.add(_key(self.next), 0)
                failed = self.store.check(["failed"])
            except (RuntimeError, OSError):  # with the process that held it
                self.gone = True
                self.failing()
                return
            now = time.monotonic()
            if now - self.heard > self.patience / 2:  # it is this process that stood still
                since = now
            self.heard = now
            if failed:
                self.failing()
                self._spoken = True
            if theirs != seen or theirs >= _LEFT:
                seen, since = theirs, now
            if now - since > self.patience and not self._over.is_set():
                self._lost(f"rank {self.next} has given no sign of life")

    def _watch(self) -> None:
        """The thread that ends the process; it asks nobody, and so nobody can hold it up."""
        before = time.monotonic()
        while not self._over.wait(self.interval):
            now = time.monotonic()
            if now - before > self.patience / 2:  # it is this process that stood still
                self.heard = now
            before = now
            silent = not self.gone and now - self.heard > self.patience
            if silent and not self._spoken:
                _end(_said("the process of the rendezvous store has been silent", self.patience))
            if self.failed_at is not None and now - self.failed_at > self.grace:
                _end("" if self._spoken else WITHOUT_A_WORD)

    def _lost(self, what: str) -> None:
        if self.claim():
            # The store may end with this process: let the others read the news first.
            line = _said(what, self.patience)
            _speak(line)
            time.sleep(2 * self.interval)
            _end()


def waited_too_long(patience: float) -> str:
    """What is said where an exchange took longer than `train.rank_timeout`."""
    return _said("another rank has kept this one waiting", patience)


def _said(what: str, patience: float) -> str:
    return (
        f"{what} for {patience:g} s (train.rank_timeout): it hangs, was stopped, or is slower than "
        "that; continue with resume=auto"
    )


def _speak(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"error: {line}\n")
        sys.stderr.flush()


def _end(line: str = "") -> NoReturn:
    """End the process at once: neither exit handlers nor other threads are waited for."""
    if line:
        _speak(line)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(EXIT_CODE)


def _key(rank: int) -> str:
    return f"beat/{rank}"
