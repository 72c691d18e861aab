"""Work in a few threads at once that nobody has to wait for when it is given up.

Threads of an executor are joined when the program ends, so that Ctrl-C would wait for a server that
hangs. These are daemons.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


def in_threads(work: Callable[[int], T], count: int, workers: int) -> list[T]:
    """`work(0)`, …, `work(count − 1)` in order, `workers` of them at once.

    Raises what one of them raises, at once: those under way are left alone, and no other begins.
    """
    done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    places, lock, over = iter(range(count)), threading.Lock(), threading.Event()

    def run() -> None:
        while not over.is_set():
            with lock:
                place = next(places, None)
            if place is None:
                return
            try:
                done.put((place, work(place), None))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                over.set()
                done.put((place, None, error))

    for _ in range(min(workers, count)):
        threading.Thread(target=run, name="judge", daemon=True).start()
    found: dict[int, T] = {}
    try:
        for _ in range(count):
            place, value, error = done.get()
            if error is not None:
                raise error
            found[place] = value
    finally:
        over.set()
    return [found[place] for place in range(count)]


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises; `TimeoutError` if that takes longer, and it is left alone."""
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.put((None, error))

    threading.Thread(target=run, name="judge-request", daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    found: T = value
    return found
