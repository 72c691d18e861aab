"""The cache of replies: kept, shared by threads, and closed while others come for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from palate.judge.replies import Replies
from palate.judge.wire import Reply

SAID = Reply("yes", "stop", (), 3, 1)


def test_what_was_kept_comes_back_and_the_first_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "replies.db")
    one = Replies(path)
    assert one.get("a") is None
    one.put("a", SAID)
    one.put("a", Reply("no", "stop", (), 3, 1))
    one.close()
    again = Replies(path)
    assert again.get("a") == SAID
    again.close()


def test_a_closed_one_holds_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "replies.db")
    replies = Replies(path)
    replies.put("a", SAID)
    replies.close()
    assert replies.get("a") is None
    replies.put("b", SAID)
    again = Replies(path)
    assert (again.get("a"), again.get("b")) == (SAID, None)
    again.close()


def test_it_is_closed_while_threads_read_it(tmp_path: Path) -> None:
    """SQLite itself would crash the process here."""
    for number in range(20):
        replies = Replies(str(tmp_path / f"{number}.db"))
        replies.put("a", SAID)
        over = threading.Event()
        failed: list[Exception] = []

        def read(
            from_: Replies = replies, stop: threading.Event = over, to: list[Exception] = failed
        ) -> None:
            while not stop.is_set():
                try:
                    from_.get("a")
                except Exception as error:  # noqa: BLE001 - told below
                    to.append(error)
                    return

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        replies.close()
        over.set()
        for thread in threads:
            thread.join()
        assert failed == []


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, and long enough to be read as one" * 50)
    with pytest.raises(ValueError, match="cannot be used"):
        Replies(str(path))
