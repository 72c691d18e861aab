"""The spill folder: lines that wait for the store, on the disk, in order.

Lines are appended to segments, files called by the number of their first line. `append` returns
when its lines are on the disk, or leaves nothing of them. A segment whose lines are all settled is
removed, and the numbers go on: the newest segment stays, empty, to tell where.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

from palate.durable import make_folder, sync_folder

SEGMENT = 2**24  # bytes after which the next segment begins
_TAKEN = 2**23  # bytes that `take` gives at once, or one line that is longer


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    lines: int = 0
    size: int = 0
    torn: bool = False


class Journal:
    """Appended to by one thread, read by another; `limit` is in bytes."""

    def __init__(self, folder: Path, limit: int, segment: int = SEGMENT) -> None:
        make_folder(folder, 0o700)
        self.folder, self.limit, self.segment = folder, limit, segment
        self._changed = Condition()
        self._segments = deque(_found(folder))
        self.torn = sum(segment.torn for segment in self._segments)
        """Lines that a crash cut off while they were written; they are never given."""
        self._read = 0  # bytes of the first segment that are settled
        self._settled = 0  # and lines
        self._handle = -1
        last = self._segments[-1] if self._segments else None
        if last is None or last.size:
            self._begin(last.first + last.lines if last else 1)
        else:
            self._handle = os.open(last.path, os.O_WRONLY | os.O_APPEND)
        self.waiting = sum(segment.lines for segment in self._segments)
        """Lines on the disk that are not settled."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Write the lines (without line breaks) behind the others, durably.

        Raises `OSError` if the disk refuses, or the limit is reached; nothing is written then.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._changed:
            if sum(segment.size for segment in self._segments) + len(data) > self.limit:
                raise OSError(errno.EDQUOT, "the spill folder has reached spill_limit")
            last = self._segments[-1]
            if last.size >= self.segment:
                self._begin(last.first + last.lines)
                last = self._segments[-1]
            try:
                _write(self._handle, data)
                os.fsync(self._handle)
            except OSError:
                self._undo(last)
                raise
            last.size += len(data)
            last.lines += len(lines)
            self.waiting += len(lines)
            self._changed.notify_all()

    def take(self, count: int, wait: float) -> list[tuple[int, bytes]]:
        """Up to `count` lines that are next, with their numbers; none if none came in `wait` s.

        The same lines come again until they are settled.
        """
        with self._changed:
            if not self.waiting:
                self._changed.wait(wait)
            self._remove_settled()
            first = self._segments[0]
            wanted = min(count, first.lines - self._settled)
            lines: list[bytes] = []
            taken = 0
            with first.path.open("rb") as file:
                file.seek(self._read)
                while len(lines) < wanted and taken < _TAKEN:
                    lines.append(file.readline().removesuffix(b"\n"))
                    taken += len(lines[-1])
            return list(enumerate(lines, first.first + self._settled))

    def settle(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """These, which `take` gave, need not come again."""
        with self._changed:
            self._settled += len(lines)
            self._read += sum(len(line) + 1 for _, line in lines)
            self.waiting -= len(lines)
            last = self._segments[-1]
            if not self.waiting and last.size:
                # What is in the store has no business on the disk a second time.
                with suppress(OSError):  # a full disk: the next time, then
                    self._begin(last.first + last.lines)
            self._remove_settled()

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Give the file back."""
        os.close(self._handle)

    def _remove_settled(self) -> None:
        while len(self._segments) > 1 and self._settled == self._segments[0].lines:
            self._segments.popleft().path.unlink(missing_ok=True)
            self._read = self._settled = 0

    def _undo(self, last: _Segment) -> None:
        """Forget what was written of an append that failed."""
        try:
            os.ftruncate(self._handle, last.size)
        except OSError:
            last.size = self.segment  # what comes next begins a segment, behind the rubble

    def _begin(self, first: int) -> None:
        path = self.folder / f"{first:012d}.jsonl"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        sync_folder(self.folder)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = handle
        self._segments.append(_Segment(path, first))


def _found(folder: Path) -> list[_Segment]:
    """The segments that an earlier process left, the oldest first, each cut after a whole line."""
    segments = []
    for path in sorted(folder.glob("*.jsonl")):
        if not path.stem.isdigit():
            continue
        lines = size = whole = 0
        with path.open("r+b") as file:
            while chunk := file.read(2**20):
                lines += chunk.count(b"\n")
                if b"\n" in chunk:
                    whole = size + chunk.rindex(b"\n") + 1
                size += len(chunk)
            file.truncate(whole)
        segments.append(_Segment(path, int(path.stem), lines, whole, torn=whole < size))
    return segments


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
