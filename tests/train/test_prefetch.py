from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from palate.train.prefetch import ahead


def batches() -> int:
    return sum(thread.name.startswith("batch-") for thread in threading.enumerate())


def test_everything_comes_in_order() -> None:
    assert list(ahead(lambda i: i * i, range(3, 9))) == [(i, i * i) for i in range(3, 9)]
    assert list(ahead(lambda i: i, range(0))) == []
    assert list(ahead(lambda i: i, range(5, 6))) == [(5, 5)]


def test_the_next_one_is_made_while_the_caller_works_and_no_further() -> None:
    made, begun = [], threading.Event()

    def make(index: int) -> int:
        made.append((index, threading.current_thread() is threading.main_thread()))
        if index == 1:
            begun.set()
        return index

    steps = ahead(make, range(5))
    assert next(steps) == (0, 0)
    assert begun.wait(10), "made without being asked for"
    assert [index for index, _ in made] == [0, 1]
    assert next(steps) == (1, 1)
    steps.close()  # type: ignore[attr-defined]
    assert made[:3] == [(0, True), (1, False), (2, False)]
    assert len(made) == 3


def _broken_at(bad: int) -> Callable[[int], int]:
    def make(index: int) -> int:
        if index == bad:
            raise ValueError(f"row {index} is broken")
        return index

    return make


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_is_raised_at_its_turn(bad: int) -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match=f"row {bad} is broken"):
        seen.extend(index for index, _ in ahead(_broken_at(bad), range(5)))
    assert batches() == 0


def test_a_caller_that_stops_leaves_no_thread() -> None:
    going = threading.Event()

    def slow(index: int) -> int:
        if index == 1:
            going.wait(10)
        return index

    steps = ahead(slow, range(5))
    next(steps)
    assert batches() == 1
    threading.Timer(0.05, going.set).start()
    steps.close()  # type: ignore[attr-defined]
    assert batches() == 0
