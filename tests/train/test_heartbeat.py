"""Signs of life: who is missed, who is not, and that a process ends although it stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from torch.distributed import HashStore

from palate.train import heartbeat
from palate.train.heartbeat import WITHOUT_A_WORD, Heartbeat

PATIENCE = 0.4
LONG = 60.0  # seconds that a test waits for what must come


class Ends:
    """Takes the place of `_end`, and ends nothing: what each thread would have ended with."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.came = threading.Event()

    def __call__(self, line: str = "") -> None:
        self.lines.append(line)
        self.threads.add(threading.current_thread())
        self.came.set()

    def wait_for(self, *threads: threading.Thread) -> None:
        """Until each of these has come to its end."""
        patience = time.monotonic() + LONG
        while not self.threads >= set(threads):
            assert time.monotonic() < patience, "a process that should have ended did not"
            time.sleep(0.02)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    one, begun = Ends(), []
    inner = Heartbeat.start

    def start(self: Heartbeat) -> None:
        begun.append(self)
        inner(self)

    monkeypatch.setattr(heartbeat, "_end", one)
    monkeypatch.setattr(Heartbeat, "start", start)
    yield one
    for rank in begun:
        rank.stop()


def test_a_silent_rank_is_missed_and_named_once(
    ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 1 of three never counts: rank 0, which watches it, says so; rank 2 ends without."""
    store = HashStore()
    first, last = (Heartbeat(store, rank, 3, PATIENCE) for rank in (0, 2))
    first.start()
    last.start()
    ends.wait_for(first._threads[0], last._threads[1])
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert "rank 1 has given no sign of life for 0.4 s (train.rank_timeout)" in said
    assert set(ends.lines) == {""}
    assert store.get("failed") == b"0"


def test_a_rank_that_counts_or_has_left_is_not_missed(ends: Ends) -> None:
    store = HashStore()
    first, second = Heartbeat(store, 0, 2, PATIENCE), Heartbeat(store, 1, 2, PATIENCE)
    first.start()
    second.start()
    assert not ends.came.wait(3 * PATIENCE)
    second.stop()
    assert not ends.came.wait(3 * PATIENCE)
    first.stop()
    assert not ends.lines


def test_the_first_to_fail_has_the_word(ends: Ends) -> None:
    store = HashStore()
    first, second = Heartbeat(store, 0, 2, PATIENCE), Heartbeat(store, 1, 2, PATIENCE)
    assert second.claim()
    assert not first.claim()
    assert not second.claim()


def test_a_rank_that_stands_still_ends_when_another_has_failed(ends: Ends) -> None:
    """Its main thread does nothing at all."""
    store = HashStore()
    store.set("failed", "1")
    one = Heartbeat(store, 0, 2, PATIENCE)
    one.start()
    assert ends.came.wait(LONG)
    assert ends.lines[0] == ""


class _Gone(HashStore):
    def add(self, key: str, value: int) -> int:
        raise RuntimeError("Connection reset by peer")


def test_a_store_that_is_gone_ends_the_process_with_a_word(ends: Ends) -> None:
    one = Heartbeat(_Gone(), 0, 2, PATIENCE)
    one.start()
    assert ends.came.wait(LONG)
    assert ends.lines[0] == WITHOUT_A_WORD


class _Frozen(HashStore):
    """As with its process stopped: it takes the word and never answers."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__()
        self.until = until

    def add(self, key: str, value: int) -> int:
        self.until.wait(LONG)
        raise RuntimeError("the test is over")

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        self.until.wait(LONG)
        raise RuntimeError("the test is over")


def test_a_store_that_does_not_answer_holds_nobody_up(ends: Ends) -> None:
    """Not even where the main thread waits for it as well, to say that it has failed."""
    over = threading.Event()
    one = Heartbeat(_Frozen(over), 1, 2, PATIENCE)
    one.grace = LONG
    one.start()

    def claim() -> None:
        with pytest.raises(RuntimeError, match="over"):
            one.claim()

    main = threading.Thread(target=claim, daemon=True)
    main.start()
    try:
        assert ends.came.wait(LONG)
        assert ends.lines[0].startswith("the process of the rendezvous store has been silent")
    finally:
        over.set()
        main.join(LONG)
        one.grace = PATIENCE
