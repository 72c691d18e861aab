"""Work in threads: in order, and given up at once."""

from __future__ import annotations

import threading

import pytest

from palate.judge.crew import in_threads, within


def test_results_stand_in_order_and_so_many_run_at_once() -> None:
    meeting = threading.Barrier(3, timeout=60)  # passes only if three work at the same time

    def work(place: int) -> int:
        meeting.wait()
        return place * place

    assert in_threads(work, 9, 3) == [n * n for n in range(9)]
    assert in_threads(work, 0, 3) == []


def test_what_one_raises_ends_all_though_another_hangs() -> None:
    never, begun = threading.Event(), threading.Event()
    seen = []

    def work(place: int) -> None:
        seen.append(place)
        if place == 0:
            begun.set()
            never.wait()
        begun.wait()
        raise KeyError(place)

    with pytest.raises(KeyError):
        in_threads(work, 100, 2)
    never.set()
    assert sorted(seen) == [0, 1]


def test_a_limit_of_time() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, never.wait)
    never.set()
    assert within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)
