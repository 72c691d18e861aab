"""What a person sees while something runs: bars, notes and tables; plain lines without a terminal.

Rooms report through a `Reporter`; nothing below the command line prints.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

_PLAIN_INTERVAL = 10.0


class Bar(Protocol):
    """A running piece of work."""

    def advance(self, count: int = 1, info: str = "") -> None:
        """Some more is done; `info` replaces the words beside the bar unless empty."""


class Reporter(Protocol):
    """Where a run's words go."""

    def note(self, text: str) -> None:
        """One line that should stay on the screen."""

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Bar]:
        """A context in which the work is followed."""


class Quiet:
    """Reports nothing, for tests and for programs with an interface of their own."""

    def note(self, text: str) -> None:
        """Nothing."""

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """A bar that shows nothing."""
        yield _QuietBar()


class _QuietBar:
    def advance(self, count: int = 1, info: str = "") -> None:
        pass


class Plain:
    """Plain lines on standard error, for logs and pipes."""

    def note(self, text: str) -> None:
        """One line."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns padded with spaces."""
        lines = [list(header), *[list(row) for row in rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        if title:
            self.note(title)
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.note("  " + "  ".join(cells).rstrip())

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """A line at the start, every ten seconds, and at the end."""
        bar = _PlainBar(self, title, total)
        yield bar
        bar.finish()


class _PlainBar:
    def __init__(self, reporter: Plain, title: str, total: int) -> None:
        self.reporter, self.title, self.total = reporter, title, total
        self.done, self.info = 0, ""
        self.began = self.said = time.monotonic()

    def advance(self, count: int = 1, info: str = "") -> None:
        self.done += count
        self.info = info or self.info
        now = time.monotonic()
        if now - self.said >= _PLAIN_INTERVAL and self.done < self.total:
            self.said = now
            left = (now - self.began) / max(1, self.done) * (self.total - self.done)
            tail = f" · {self.info}" if self.info else ""
            self.reporter.note(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left{tail}")

    def finish(self) -> None:
        tail = f" · {self.info}" if self.info else ""
        seconds = time.monotonic() - self.began
        self.reporter.note(f"{self.title}: {self.done}/{self.total} in {seconds:.1f} s{tail}")


class Terminal:
    """Colours and bars, through rich, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        """One line; what looks like markup is shown as it is."""
        self.console.print(text, markup=False)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table without boxes."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*[Text(cell) for cell in row])
        self.console.print(table)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """One line that fills, with the time left."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.console) as progress:
            yield _RichBar(progress, progress.add_task(title, total=total, info=""))


class _RichBar:
    def __init__(self, progress: object, task: object) -> None:
        self.progress, self.task = progress, task

    def advance(self, count: int = 1, info: str = "") -> None:
        fields = {"info": info} if info else {}
        self.progress.update(self.task, advance=count, **fields)  # type: ignore[attr-defined]


def speaks() -> bool:
    """Whether this process talks to people: of those that torchrun started, rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


def reporter_for(stream_is_terminal: bool | None = None) -> Reporter:
    """Bars in a terminal, plain lines elsewhere; nothing in any but the first of several ranks."""
    if not speaks():
        return Quiet()
    terminal = sys.stderr.isatty() if stream_is_terminal is None else stream_is_terminal
    return Terminal() if terminal else Plain()
