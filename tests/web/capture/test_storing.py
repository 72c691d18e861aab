"""The thread that stores: a store that fails, waits or refuses costs nothing but time."""

from __future__ import annotations

import json
import threading
import time

import pytest
from tests.web.capture.conftest import until
from tests.web.capture.upstream import answer

from palate.web.capture import storing as module
from palate.web.capture.journal import Journal
from palate.web.capture.storing import Storing


class Sink:
    def __init__(self):
        self.taken = []
        self.fails = 0
        self.down = range(0)
        self.refuses = None
        self.calls = 0
        self.expired = []

    def add(self, arrivals, source_name):
        self.calls += 1
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the server is away")
        if self.calls in self.down:
            raise ConnectionError("the server is away again")
        texts = [arrival.record.completions[0].text for arrival in arrivals]
        if self.refuses in texts:
            raise RuntimeError("secret words of a user")
        self.taken += [text for text in texts if text not in self.taken]

    def expire(self, days):
        self.expired.append(days)
        return 2

    def close(self):
        pass


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_DELAY", 0.005)
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.02)
    monkeypatch.setattr(module, "_IDLE", 0.05)


class Bench:
    def __init__(self, folder, sink, opened=None, retention=None):
        self.journal = Journal(folder, 2**30)
        self.rejected, self.said, self.changes = [], [], 0
        self.storing = Storing(
            self.journal,
            opened or (lambda: sink),
            "capture:x",
            retention,
            lambda *reject: self.rejected.append(reject),
            self.said.append,
            self.change,
        )
        self.storing.start()

    def change(self):
        self.changes += 1

    def append(self, *texts):
        self.journal.append([line(text) for text in texts])


def line(text):
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps({"request": request, "response": answer(f"id-{text}", text)}).encode()


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def bench(tmp_path, sink):
    made = Bench(tmp_path, sink)
    yield made
    made.storing.end(5)


def test_rows_are_stored_in_their_order(bench, sink):
    bench.append("a", "b")
    bench.append("c")
    until(lambda: sink.taken == ["a", "b", "c"])
    until(lambda: bench.storing.counts["stored"] == 3)
    assert bench.journal.waiting == 0
    assert not bench.said


def test_a_store_that_fails_gets_everything_later_in_order(bench, sink):
    sink.fails = 2
    bench.append("a")
    until(lambda: bench.storing.failure)
    bench.append("b")
    until(lambda: sink.taken == ["a", "b"])
    until(lambda: bench.storing.failure is None)
    # One line when it begins to fail, and one when it is over, however often it failed.
    assert len(bench.said) == 2
    assert "the server is away" in bench.said[0]
    assert not bench.rejected


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path, sink):
    attempts = []

    def opened():
        attempts.append(1)
        if len(attempts) < 4:
            raise OSError("no route")
        return sink

    bench = Bench(tmp_path, sink, opened)
    bench.append("a")
    until(lambda: sink.taken == ["a"])
    bench.storing.end(5)
    assert not bench.rejected


def test_a_row_that_the_store_refuses_does_not_hold_up_the_others(bench, sink):
    sink.refuses = "b"
    bench.append("a", "b", "c")
    until(lambda: sink.taken == ["a", "c"])
    until(lambda: bench.rejected == [(2, "unstorable", "the store refused it, and took others")])
    until(lambda: bench.storing.counts["stored"] == 2)
    assert bench.journal.waiting == 0
    assert "secret" not in str(bench.said)  # a driver quotes what it was given


def test_a_row_is_not_given_up_while_the_store_may_be_down(bench, sink):
    """Alone, it cannot be told from a store that is down: it waits until another one is taken."""
    sink.refuses = "b"
    bench.append("b")
    until(lambda: sink.calls > 6)
    assert not bench.rejected
    assert bench.journal.waiting == 1
    bench.append("c")
    until(lambda: sink.taken == ["c"])
    until(lambda: len(bench.rejected) == 1)


@pytest.mark.parametrize("fails", [4, 7, 11, 40])
def test_a_store_that_was_down_loses_nothing_whenever_it_comes_back(bench, sink, fails):
    """Also while the rows are tried one by one."""
    sink.fails = fails
    bench.append(*"abcdefgh")
    until(lambda: sorted(sink.taken) == list("abcdefgh"))
    until(lambda: bench.journal.waiting == 0)
    assert not bench.rejected


def test_a_store_that_fails_again_while_rows_are_tried_singly_loses_nothing(bench, sink):
    """It takes the first row at the fourth call, and is away for the rest of that pass."""
    sink.fails = 3
    sink.down = range(5, 25)
    bench.append(*"abcdefgh")
    until(lambda: sorted(sink.taken) == list("abcdefgh"))
    until(lambda: bench.journal.waiting == 0)
    assert not bench.rejected


def test_a_store_that_is_down_is_not_asked_for_every_row(bench, sink):
    sink.fails = 10**6
    bench.append(*(f"row {number}" for number in range(200)))
    until(lambda: bench.storing._failures >= 6)
    assert sink.calls < 60


def test_a_damaged_line_is_listed_and_passed_over(bench, sink):
    bench.journal.append([b"{half", line("a"), b"7", b'{"request": {}, "response": {}}'])
    until(lambda: sink.taken == ["a"])
    reasons = until(lambda: len(bench.rejected) == 3 and [r[:2] for r in bench.rejected])
    assert reasons == [(1, "broken-line"), (3, "broken-line"), (4, "missing-field")]
    until(lambda: bench.journal.waiting == 0)


def test_a_damaged_line_is_listed_once_however_often_its_batch_is_tried(bench, sink):
    sink.fails = 6
    bench.journal.append([b"{half", line("a")])
    until(lambda: sink.taken == ["a"])
    assert [reject[:2] for reject in bench.rejected] == [(1, "broken-line")]


def test_a_spill_folder_that_cannot_be_read_is_a_failure_like_others(bench, sink, monkeypatch):
    take, broken = bench.journal.take, [True]

    def unreadable(count, wait):
        if broken:
            raise OSError("Input/output error")
        return take(count, wait)

    monkeypatch.setattr(bench.journal, "take", unreadable)
    bench.append("a")
    until(lambda: bench.storing.failure == "Input/output error")
    broken.clear()
    until(lambda: sink.taken == ["a"])
    until(lambda: bench.storing.failure is None)


def test_the_end_waits_for_what_is_left_but_not_for_a_store_that_fails(tmp_path, sink):
    bench = Bench(tmp_path, sink)
    bench.append("a")
    bench.storing.end(5)
    assert sink.taken == ["a"]
    failing = Sink()
    failing.fails = 10**6
    second = Bench(tmp_path, failing)
    second.append("b")
    before = time.monotonic()
    second.storing.end(20)
    assert time.monotonic() - before < 10
    assert second.journal.waiting == 1


def test_a_store_that_blocks_does_not_block_the_end_or_an_append(tmp_path, sink):
    free = threading.Event()
    blocked = threading.Event()

    class Blocking(Sink):
        def add(self, arrivals, source_name):
            blocked.set()
            free.wait(30)
            super().add(arrivals, source_name)

    slow = Blocking()
    bench = Bench(tmp_path, slow)
    bench.append("a")
    assert blocked.wait(10)
    before = time.monotonic()
    bench.append("b")
    bench.storing.end(0.2)
    assert time.monotonic() - before < 5
    assert bench.journal.waiting == 2
    free.set()
    bench.storing.join(10)


def test_old_content_is_expired_at_the_start_and_each_hour(tmp_path, sink, monkeypatch):
    bench = Bench(tmp_path, sink, retention=30.0)
    until(lambda: sink.expired == [30.0])
    until(lambda: any("erased 2" in said for said in bench.said))
    bench.append("a")
    until(lambda: sink.taken == ["a"])
    assert sink.expired == [30.0]
    monkeypatch.setattr(module, "_EXPIRE_EVERY", 0.01)
    until(lambda: len(sink.expired) > 1)
    bench.storing.end(5)
