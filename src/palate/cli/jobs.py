"""Runs of a sweep as child processes: some at once, stopped politely, and never left behind."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from palate.progress import Bar, Reporter

if TYPE_CHECKING:
    from palate.sweep import Cell

_LOOK_EVERY = 0.1  # seconds
_TELL_EVERY = 1.0
_GRACE = 20.0  # for a child that was told twice to stop
_PR_SET_PDEATHSIG = 1
_STOPPED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that ended without results, and its last word."""

    name: str
    reason: str


@dataclass(slots=True)
class _Job:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: Path
    file: IO[bytes]


def run_jobs(
    cells: Sequence[Cell],
    command: Callable[[Cell], list[str]],
    *,
    jobs: int,
    logs: Path,
    say: Reporter,
    should_stop: Callable[[], bool],
    environment: Mapping[str, str],
    on_end: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Run all cells, at most `jobs` at once; returns those that ended without results.

    When `should_stop` says so, those that are going get SIGINT once, are waited for, and no
    other begins. `on_end` is called after each. On any way out no child is left.
    """
    waiting = list(cells)
    running: list[_Job] = []
    failures: list[Failure] = []
    if not waiting:
        return failures
    logs.mkdir(parents=True, exist_ok=True)
    with say.bar("sweep", len(cells)) as bar:
        crew = _Crew(command, logs, dict(environment), say)
        try:
            told = stopping = False
            while running or (waiting and not stopping):
                if should_stop() and not told:
                    told = stopping = True
                    for job in running:
                        _signal(job, signal.SIGINT)
                while waiting and not stopping and len(running) < jobs:
                    begun = crew.begin(waiting)
                    if begun is None:
                        break
                    running.append(begun)
                time.sleep(_LOOK_EVERY)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    failure = _ended(job, stopping)
                    if failure is not None:
                        failures.append(failure)
                        say.note(f"{failure.name} failed: {failure.reason} (all of it: {job.log})")
                    bar.advance(1)
                    on_end()
                crew.tell(bar, running)
        finally:
            _end(running)
    return failures


class _Crew:
    """Starts runs, and says how far they are."""

    def __init__(
        self,
        command: Callable[[Cell], list[str]],
        logs: Path,
        environment: dict[str, str],
        say: Reporter,
    ) -> None:
        self.command, self.logs, self.environment, self.say = command, logs, environment, say
        self.named: set[str] = set()
        self.said, self.at = "", 0.0

    def begin(self, waiting: list[Cell]) -> _Job | None:
        """Start the first cell in which nobody else trains, and take it off the list.

        Someone does when a sweep was killed and its run is still saving.
        """
        for cell in waiting:
            if _free(cell.folder):
                waiting.remove(cell)
                return self._start(cell)
            if cell.name not in self.named:
                self.named.add(cell.name)
                self.say.note(f"waiting for the process that trains in {cell.folder}")
        return None

    def _start(self, cell: Cell) -> _Job:
        from palate.config import dump_config
        from palate.durable import write_text

        place = cell.folder / "config.yaml"
        if not place.is_file():
            cell.folder.mkdir(parents=True, exist_ok=True)
            write_text(place, dump_config(cell.config))
        log = self.logs / f"{cell.name}.log"
        file = log.open("ab")
        process = subprocess.Popen(  # noqa: S603 - our own program
            self.command(cell),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=self.environment,
            start_new_session=True,  # a terminal's Ctrl-C comes to us, and once from us to them
            preexec_fn=_dies_with_us(),  # noqa: PLW1509 - one system call, nothing imported
        )
        return _Job(cell, process, log, file)

    def tell(self, bar: Bar, running: Sequence[_Job]) -> None:
        """Names and steps of the runs that are going, about once a second."""
        if time.monotonic() - self.at < _TELL_EVERY:
            return
        self.at = time.monotonic()
        words = "  ".join(f"{job.cell.name}{_step(job.cell.folder)}" for job in running)
        if words != self.said:
            self.said = words
            bar.advance(0, words)


def _dies_with_us() -> Callable[[], None]:
    """For the child: SIGTERM, which saves, when this process dies; on Linux only.

    Elsewhere a run whose sweep was killed goes on to its end, and the next sweep waits for it.
    """
    return functools.partial(end_with, os.getpid(), signal.SIGTERM)


def end_with(parent: int, number: int) -> None:
    """Let this process get a signal when its parent dies; does nothing where that cannot be."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # too late to be told
        os.kill(os.getpid(), number)


def _free(folder: Path) -> bool:
    from palate.durable import hold

    if not folder.is_dir():
        return True
    handle = hold(folder / ".lock")
    if handle is None:
        return False
    os.close(handle)
    return True


def _signal(job: _Job, number: signal.Signals) -> None:
    if job.process.poll() is None:
        job.process.send_signal(number)


def _ended(job: _Job, stopping: bool) -> Failure | None:
    """Why a process that has ended gave no results; None if it did, or was told to stop."""
    job.file.close()
    code = job.process.returncode
    if job.cell.complete and code == 0:
        return None
    if stopping and code in {_STOPPED, -signal.SIGINT}:  # the second: before it listened
        return None
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return Failure(job.cell.name, f"killed by {name}{memory}")
    if code == _STOPPED:
        return Failure(job.cell.name, "stopped from outside; what it had is saved")
    return Failure(job.cell.name, _last_word(job.log) or f"ended with code {code}")


def _last_word(log: Path) -> str:
    """The last line that begins with `error: `, without that; else the last line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else (lines[-1] if lines else "")


def _end(running: Sequence[_Job]) -> None:
    """After an error or a second Ctrl-C: told again, waited for, and killed at last."""
    for job in running:
        _signal(job, signal.SIGINT)
    until = time.monotonic() + _GRACE
    for job in running:
        try:
            job.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
        job.file.close()


def _step(folder: Path) -> str:
    """` step 12`, from the last whole line of the run's, or its last stage's, metrics."""
    files = [folder / "metrics.jsonl", *folder.glob("*/metrics.jsonl")]
    there = [path for path in files if path.is_file()]
    if not there:
        return ""
    newest = max(there, key=lambda path: path.stat().st_mtime)
    with newest.open("rb") as file:
        file.seek(max(0, newest.stat().st_size - 8192))
        lines = file.read().decode("utf-8", "replace").split("\n")
    for line in reversed(lines):
        try:
            return f" step {json.loads(line)['step']}"
        except (ValueError, KeyError, TypeError):
            continue
    return ""
