"""A file of rows that grows group by group, and goes on after a kill where it was.

The first line holds the settings that decide the rows; then one row a line, appended a whole
group at a time and flushed to the disk. What a kill left half is cut off when the file is
opened again, down to the last whole group.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.durable import hold, make_folder, write_text

Row = dict[str, Any]


class Busy(ValueError):
    """Another process holds the file."""


class Damaged(ValueError):
    """What is in the file was not written by a `RowLog`, or is no longer whole."""


class RowLog:
    """Rows on the disk: `rows` are those that are there, always a whole number of groups.

    `sizes` are the groups' numbers of rows, in their order. Raises `ValueError` with the cure for
    a file that was made under other settings, that is none of ours, or that another process holds.
    """

    def __init__(self, path: Path, settings: Row, sizes: Sequence[int]) -> None:
        self.path = path
        make_folder(path.parent)
        lock = hold(path.with_name(f".{path.name}.lock"))
        if lock is None:
            raise Busy(f"another process is writing {path}: wait for it")
        self._lock: int | None = lock
        try:
            self._header: Row = {"settings": settings}
            self.rows = self._resume(self._header, sizes)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RowLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process go on."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, rows: Sequence[Row]) -> None:
        """Add one group; on return it is on the disk."""
        self._write(rows)
        self.rows.extend(rows)

    def replace(self, rows: Sequence[Row]) -> None:
        """Put other rows in the place of those that are there, whole or not at all."""
        write_text(self.path, "".join(f"{_line(row)}\n" for row in (self._header, *rows)))
        self.rows = list(rows)

    def _write(self, rows: Sequence[Row]) -> None:
        with self.path.open("ab") as file:
            file.write("".join(f"{_line(row)}\n" for row in rows).encode())
            file.flush()
            os.fsync(file.fileno())

    def _resume(self, header: Row, sizes: Sequence[int]) -> list[Row]:
        there = self.path.read_bytes() if self.path.is_file() else b""
        if b"\n" not in there:  # not even the first line was finished
            self.replace([])
            return []
        lines = there[: there.rindex(b"\n")].split(b"\n")
        try:
            before = json.loads(lines[0])["settings"]
            rows = _parsed(lines[1:], sizes)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{self.path} is no file of ours, or damaged: choose another with -o"
            ) from error
        now = json.loads(_line(header))["settings"]
        if before != now:
            other = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            names = ", ".join(sorted(other))
            raise ValueError(
                f"{self.path} was made under other settings ({names}): give the same settings to "
                "go on with it, another file with -o, or delete it"
            )
        whole, _ = _whole(len(rows), sizes)
        kept = lines[: whole + 1]
        if len(b"\n".join(kept)) + 1 < len(there):
            with self.path.open("r+b") as file:
                file.truncate(len(b"\n".join(kept)) + 1)
        return rows[:whole]


def _parsed(lines: Sequence[bytes], sizes: Sequence[int]) -> list[Row]:
    """The rows, without those of a last group of which a power cut left some parts only.

    Raises `ValueError` where a row that cannot be read is further up.
    """
    rows: list[Row] = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            whole, appended = _whole(len(rows), sizes)
            if whole + appended < len(lines):
                raise
            break
    return rows


def _whole(count: int, sizes: Sequence[int]) -> tuple[int, int]:
    """How many of that many rows are in whole groups, and the size of the next group."""
    whole = 0
    for size in sizes:
        if whole + size > count:
            return whole, size
        whole += size
    return whole, 0


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)
