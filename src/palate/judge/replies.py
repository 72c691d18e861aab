"""Replies that were paid for, kept in a SQLite file under a hash of what was asked."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from palate.judge.wire import Reply

_TABLE = "CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, said TEXT NOT NULL)"


class Replies:
    """Key to reply, on disk; threads and processes may share it.

    Once it is closed it holds nothing and keeps nothing: a thread that was left alone when the
    judge stopped may still come for it. Raises `ValueError` for a file that is no such cache.
    """

    def __init__(self, path: str) -> None:
        self._lock, self._closed = threading.Lock(), False
        try:
            Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(
                Path(path).expanduser(), timeout=60, check_same_thread=False, isolation_level=None
            )
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(_TABLE)
            self._file.execute("SELECT key, said FROM reply LIMIT 0")
        except (sqlite3.Error, OSError) as error:
            raise ValueError(
                f"the cache {path} cannot be used ({error}): name another file, or delete it"
            ) from error

    def get(self, key: str) -> Reply | None:
        """The reply that is kept under the key, if there is one."""
        with self._lock:
            if self._closed:
                return None
            found = self._file.execute("SELECT said FROM reply WHERE key = ?", (key,)).fetchone()
        return None if found is None else Reply.from_json(found[0])

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; one that is there stays."""
        with self._lock:
            if self._closed:
                return
            self._file.execute("INSERT OR IGNORE INTO reply VALUES (?, ?)", (key, reply.to_json()))

    def close(self) -> None:
        """Close the file, when nobody is reading it."""
        with self._lock:  # SQLite would free what another thread is about to read
            self._closed = True
            self._file.close()
