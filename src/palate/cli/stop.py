"""Stopping a run politely: the first Ctrl-C asks, the second insists."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from palate.progress import speaks


class Stopped(Exception):
    """The command ended early on purpose; the message says how to go on."""

    def __init__(self, message: str, code: int = 130) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def stop_signals(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM set a flag that the yielded function reads.

    A second signal raises `KeyboardInterrupt` at once.
    """
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("stopping after this step, and saving (again to stop at once)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def one_voice() -> Iterator[None]:
    """Before several ranks know of each other, all meet the same errors: only rank 0 says them."""
    try:
        yield
    except ValueError:
        if speaks():
            raise
        raise Stopped("", 2) from None
