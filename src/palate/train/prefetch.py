"""The next step's batches are built while this step runs.

Building a forest is Python and small copies; on a GPU the device would wait for it. One step
ahead, in order, so the result is that of building each step when it is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class _Making(Generic[T]):
    """One call in a thread of its own, which ends with it: there is nothing to stop later."""

    def __init__(self, make: Callable[[int], T], index: int) -> None:
        self._make, self._index = make, index
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"batch-{index}")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made.append(self._make(self._index))
        except BaseException as error:  # noqa: BLE001 it is raised where the batch is wanted
            self._error = error

    def wait(self) -> None:
        """Until the call has ended, however it did."""
        self._thread.join()

    def result(self) -> T:
        """What was made; raises what the call raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._made[0]


def ahead(make: Callable[[int], T], indices: Sequence[int]) -> Iterator[tuple[int, T]]:
    """(index, make(index)) in order; the next one is made while the caller works on this one.

    What `make` raises is raised here, when the turn of its index has come. Closing the iterator
    waits for the call that is under way.
    """
    making: _Making[T] | None = None
    try:
        for place, index in enumerate(indices):
            made = make(index) if making is None else making.result()
            following = indices[place + 1 : place + 2]
            making = _Making(make, following[0]) if following else None
            yield index, made
    finally:
        if making is not None:
            making.wait()
