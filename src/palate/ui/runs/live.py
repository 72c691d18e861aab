"""A run while it goes: one follower looks at its folder, and all who listen are told.

Events: `points` (new values by line, after the mark in the address), `again` (the file is another
one: draw anew), `progress`, `changed` (other parts of the page are to be read again), `end` (the
run is complete). A comment every few seconds keeps the connection awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.evaluate.runfolder import EVALUATION
from palate.ui.runs.metrics import Mark, Metrics
from palate.ui.runs.recipe import recipe_in
from palate.ui.runs.series import since
from palate.ui.runs.states import State
from palate.ui.runs.summary import GOING, progress_of

LOOK = 0.5
"""Seconds between two looks at a run's folder."""
SELDOM = 2.0
"""Seconds between two looks at whether somebody trains, and at a run in which nobody does."""
HEARTBEAT = 15.0
BEHIND = 5000
"""Rows behind which a listener is better told to draw anew."""
_FILES = (
    "config.yaml",
    "results.json",
    "samples.jsonl",
    "heldout.jsonl",
    "report.html",
    EVALUATION,
)
_GROWTH = 1.25  # findings are made again when there are so many times the lines

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found."""

    mark: Mark
    state: str
    progress: Mapping[str, Any]
    parts: int
    complete: bool


@dataclass(slots=True)
class Follower:
    """Looks at one run for all who listen, as long as anyone does."""

    name: str
    metrics: Metrics
    state: Callable[[], State]
    listeners: int = 0
    seen: Seen | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _told: dict[Mark, Event] = field(default_factory=dict)
    _looks: int = 0
    _word: str = ""
    _files: tuple[object, ...] = ()
    _rows: int = 0
    _grew: bool = False  # lines may arrive although nobody holds the folder: from elsewhere
    _told_of: tuple[object, ...] = ()
    _told_rows: int = 0
    _parts: int = 0

    async def listen(self, mark: Mark | None) -> AsyncIterator[Event]:
        """The events after `mark`, or from now on; ends when the run is complete."""
        self.listeners += 1
        try:
            if self._task is None or self._task.done():
                self.seen = None
                self._task = asyncio.create_task(self._follow())
            told: Seen | None = None
            while True:
                seen = self.seen
                if seen is None or seen is told:
                    if not await self._wait():
                        yield {}
                    continue
                for event in self._events(told, seen, mark):
                    yield event
                mark, told = seen.mark, seen
                if seen.complete:
                    yield {"event": "end", "data": {"run": self.name}}
                    return
        finally:
            self.listeners -= 1
            if not self.listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def _events(self, told: Seen | None, seen: Seen, mark: Mark | None) -> list[Event]:
        found: list[Event] = []
        if told is None or (told.state, told.progress) != (seen.state, seen.progress):
            about = {"run": self.name, "state": seen.state, "progress": seen.progress}
            found.append({"event": "progress", "data": about})
        if mark is not None and mark != seen.mark:
            found.append(self._points(mark, seen.mark))
        if told is not None and told.parts != seen.parts:
            found.append({"event": "changed", "data": {"run": self.name}})
        return found

    def _points(self, mark: Mark, now: Mark) -> Event:
        """What is new after `mark`; made once for all who are as far."""
        if mark not in self._told:
            behind = sum(now.rows) - sum(mark.rows) > BEHIND
            lines = None if behind else since(self.metrics, mark)
            about: Event = {"run": self.name, "mark": now.text()}
            if lines is None:
                self._told[mark] = {"event": "again", "id": now.text(), "data": about}
            else:
                about["lines"] = lines
                self._told[mark] = {"event": "points", "id": now.text(), "data": about}
        return self._told[mark]

    async def _wait(self) -> bool:
        """Until something is new; False when it is time for a heartbeat."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                await self._changed.wait()
                return True
        return False

    async def _follow(self) -> None:
        while True:
            try:
                seen = await asyncio.to_thread(self.look)
            except (ValueError, OSError):  # deleted or moved: the run may begin anew in its place
                await asyncio.sleep(SELDOM)
                continue
            if seen != self.seen:
                self._told.clear()
                self.seen = seen
                self._changed.set()
                self._changed = asyncio.Event()
            if seen.complete:
                return
            await asyncio.sleep(LOOK if seen.state in GOING or self._grew else SELDOM)

    def look(self) -> Seen:
        """Look at the folder once, in whichever thread."""
        folder = self.metrics.path.parent
        with self.metrics.lock:
            mark = self.metrics.read()
            progress = progress_of(recipe_in(folder), self.metrics.table("train"))
        rows, files = sum(mark.rows), _stamps(folder)
        if not self._looks % round(SELDOM / LOOK) or files != self._files:
            self._word = self.state().word
        told = (self._word, files, mark.age, mark.rows[1])
        if told != self._told_of or rows > _GROWTH * self._told_rows:
            self._told_of, self._told_rows = told, rows
            self._parts += 1
        self._looks += 1
        self._grew, self._rows, self._files = rows != self._rows, rows, files
        facts = progress.facts(going=self._word in GOING)
        return Seen(mark, self._word, facts, self._parts, complete=self._word == "complete")


class Followers:
    """The followers of a site, by run folder; inside its event loop."""

    def __init__(self) -> None:
        self._by_folder: dict[Path, Follower] = {}

    def follower(self, folder: Path, make: Callable[[], Follower]) -> Follower:
        """The one follower of a run."""
        found = self._by_folder.get(folder)
        if found is None or not found.listeners:
            found = self._by_folder[folder] = make()
        for path in [p for p, one in self._by_folder.items() if not one.listeners and p != folder]:
            del self._by_folder[path]
        return found


async def together(sources: Sequence[AsyncIterator[Event]]) -> AsyncIterator[Event]:
    """The events of several runs in one stream, as they come; ends with the last of them."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue(64)

    async def drain(source: AsyncIterator[Event]) -> None:
        try:
            async for event in source:
                await queue.put(event)
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(drain(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            event = await queue.get()
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()


def _stamps(folder: Path) -> tuple[object, ...]:
    found: list[object] = []
    for name in _FILES:
        try:
            stat = (folder / name).stat()
            found.append((stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append(None)
    return tuple(found)
