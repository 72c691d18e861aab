"""metrics.jsonl, followed while a run writes it: only what is new is read, and only whole lines.

A run that goes on after an interruption replaces the file, one that is begun anew or moved aside
leaves another in its place; either is noticed and everything read again, under a new `age`.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from palate.ui.runs.columns import Table, kinds_of

KINDS = ("train", "heldout", "rollout")

_SEAM = 256  # bytes before the place reached, which must still be there at the next look
_UNBOUNDED = 20  # lines of a run that diverged that are kept
_PIECE = 2**24  # bytes that are read and parsed at a time


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a reader has come: the file's age, and the rows and changes of each kind."""

    age: str
    rows: tuple[int, ...]
    changed: int

    def text(self) -> str:
        """As the id of an event."""
        return f"{self.age}.{'.'.join(map(str, self.rows))}.{self.changed}"

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """Inverse of `text`; None for anything else."""
        age, *numbers = text.split(".")
        if len(numbers) != len(KINDS) + 1 or not all(n.isascii() and n.isdigit() for n in numbers):
            return None
        *rows, changed = (int(n[:18]) for n in numbers)
        return cls(age, tuple(rows), changed)


@dataclass(slots=True)
class Metrics:
    """All that one metrics.jsonl says. `read` brings it up to date; safe from several threads.

    `odd` counts lines that are no metrics: cut by a crash, of an unknown kind, without a step.
    `unbounded` are the first lines in which a number was NaN or infinite.
    """

    path: Path
    tables: dict[str, Table] = field(default_factory=dict)
    age: str = ""
    odd: int = 0
    unbounded: list[Mapping[str, Any]] = field(default_factory=list)
    _offset: int = 0
    _identity: tuple[int, int] = (0, 0)
    _seam: bytes = b""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._forget((0, 0))

    def table(self, kind: str) -> Table:
        """The lines of a kind; an empty table of one that was never written."""
        return self.tables.get(kind) or Table()

    @property
    def mark(self) -> Mark:
        """How far this has come."""
        tables = [self.table(kind) for kind in KINDS]
        return Mark(self.age, tuple(t.rows for t in tables), sum(t.changed for t in tables))

    def read(self) -> Mark:
        """Read what is new, and return how far that is; a file that is not there is empty."""
        with self.lock:
            try:
                with self.path.open("rb") as file:
                    self._follow(file.fileno())
            except OSError:  # not there yet, moved, or a folder
                if self._identity != (0, 0):
                    self._forget((0, 0))
            return self.mark

    def _follow(self, file: int) -> None:
        found = os.fstat(file)
        identity = (found.st_dev, found.st_ino)
        if identity != self._identity or not self._is_continued(file):
            self._forget(identity)
        while piece := os.pread(file, _PIECE, self._offset):
            whole = piece.rfind(b"\n") + 1
            if not whole:
                if len(piece) < _PIECE:
                    return
                whole = len(piece)  # a line of 16 MiB is none of ours
            self._take(piece[:whole])
            self._offset += whole
            self._seam = (self._seam + piece[:whole][-_SEAM:])[-_SEAM:]

    def _is_continued(self, file: int) -> bool:
        """Whether what was read is still there: an inode may come back as another file's."""
        before = os.pread(file, len(self._seam), self._offset - len(self._seam))
        return before == self._seam

    def _forget(self, identity: tuple[int, int]) -> None:
        self.tables = {}
        self.age = f"{time.time_ns():x}"
        self.odd, self.unbounded = 0, []
        self._offset, self._seam, self._identity = 0, b"", identity

    def _take(self, text: bytes) -> None:
        lines = []
        for raw in text.split(b"\n"):
            if not raw.strip():
                continue
            line, plain = _parsed(raw)
            if not _is_metrics(line):
                self.odd += 1
                continue
            lines.append(line)
            if not plain and len(self.unbounded) < _UNBOUNDED:
                self.unbounded.append(line)
        for kind, group in kinds_of(lines).items():
            self.tables.setdefault(kind, Table()).add(group)


def _parsed(raw: bytes) -> tuple[Any, bool]:
    """What a line says, and whether it is plain JSON.

    A run that diverged writes NaN and Infinity, which Python's own reader knows.
    """
    try:
        return orjson.loads(raw), True
    except ValueError:
        pass
    try:
        line = json.loads(raw)
        json.dumps(line, ensure_ascii=False).encode()  # which half a character cannot be
    except (ValueError, RecursionError):
        return None, False
    return line, False


def _is_metrics(line: Any) -> bool:
    """Whether it is of a known kind and of a step."""
    if not isinstance(line, dict) or line.get("kind") not in KINDS:
        return False
    step = line.get("step")
    if isinstance(step, bool) or not isinstance(step, int | float):
        return False
    return abs(step) < 2**53 and math.isfinite(step)
