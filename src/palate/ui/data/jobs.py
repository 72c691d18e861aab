"""Work that takes longer than a page may: a command of palate in a process of its own.

One runs at a time for each kind of work. What it printed stays in memory and ends with the server:
it quotes what users said, and what is deleted from the store must not live on in a file of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import orjson

from palate.ui.environment import environment

_KEPT = 24  # results of one kind of work
_PATIENCE = 5.0  # seconds that a stopped process may take to end
_LONGEST = 64 * 2**20  # bytes of a result


@dataclass
class Job:
    """One command: `state` is running, done, failed or stopped; `result` what it printed, read.

    `about` is the caller's, and told with the job.
    """

    key: str
    about: dict[str, Any]
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    state: str = "running"
    why: str = ""
    result: Any = None
    seconds: float = 0.0
    said: IO[bytes] | None = None
    started: float = field(default_factory=time.monotonic)

    def told(self) -> dict[str, Any]:
        """The job without its result; JSON-ready."""
        running = self.state == "running"
        return {
            "state": self.state,
            "began": self.began,
            "seconds": round(time.monotonic() - self.started if running else self.seconds, 1),
            "why": self.why,
            "progress": _last_line(self.said) if running else "",
            **self.about,
        }


Finish = Callable[[Any], Any]


class Jobs:
    """The commands of one kind of work, and the latest results by key."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._running: tuple[Job, subprocess.Popen[bytes]] | None = None
        self._thread: threading.Thread | None = None

    def get(self, key: str) -> Job | None:
        """The job of that key, running or over."""
        with self._lock:
            return self._jobs.get(key)

    def forget(self, key: str) -> None:
        """Drop what is known of a job that is over."""
        with self._lock:
            if self._running is None or self._running[0].key != key:
                self._jobs.pop(key, None)

    def start(
        self,
        key: str,
        words: Sequence[str],
        about: dict[str, Any],
        finish: Finish = lambda value: value,
    ) -> Job:
        """Run ``palate WORDS``; `finish` gets the JSON that it printed, its value is the result.

        The same key while it runs gives the job that runs. Raises `ValueError` while another runs.
        """
        with self._lock:
            if self._running is not None:
                running = self._running[0]
                if running.key == key:
                    return running
                raise ValueError(
                    f"one at a time: another began at {running.began}; wait for it, or stop it"
                )
            printed, said = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - the watcher's
            job = Job(key, about, said=said)
            command = [sys.executable, "-m", "palate.cli", *words]
            process = subprocess.Popen(  # noqa: S603 - our own command, without a shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=said,
                env=environment(),
            )
            self._jobs[key] = job
            self._jobs.move_to_end(key)
            while len(self._jobs) > _KEPT:
                self._jobs.popitem(last=False)
            self._running = (job, process)
            watch = (job, process, printed, finish)
            self._thread = threading.Thread(target=self._watch, args=watch, daemon=True)
            self._thread.start()
            return job

    def stop(self, key: str) -> None:
        """End the job of that key if it runs."""
        with self._lock:
            if self._running is None or self._running[0].key != key:
                return
            job, process = self._running
            job.state = "stopped"
        _end(process)

    def close(self) -> None:
        """End whatever runs."""
        with self._lock:
            running, thread = self._running, self._thread
        if running is not None:
            self.stop(running[0].key)
        if thread is not None:
            thread.join(_PATIENCE)

    def _watch(
        self, job: Job, process: subprocess.Popen[bytes], printed: IO[bytes], finish: Finish
    ) -> None:
        state, why, result = "done", "", None
        try:
            code = process.wait(self._seconds)
            if code:
                state, why = "failed", _cause(_last_line(job.said), code)
            else:
                result = finish(_read(printed))
        except subprocess.TimeoutExpired:
            _end(process)
            state, why = "failed", f"it took longer than {self._seconds:.0f} seconds and was ended"
        except (ValueError, OSError) as error:
            state, why = "failed", " ".join(str(error).split())
        finally:
            with self._lock:
                job.seconds = time.monotonic() - job.started
                if job.state == "running":
                    job.state, job.why, job.result = state, why, result
                said, job.said = job.said, None
                self._running = None
            printed.close()
            if said is not None:
                said.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _read(printed: IO[bytes]) -> Any:
    """The last line of what was printed, which is JSON."""
    size = printed.seek(0, 2)
    if size > _LONGEST:
        raise ValueError(f"the result is larger than {_LONGEST // 2**20} MiB")
    printed.seek(0)
    lines = [line for line in printed.read().splitlines() if line.strip()]
    try:
        return orjson.loads(lines[-1])
    except (IndexError, orjson.JSONDecodeError):
        raise ValueError("the command printed no JSON") from None


def _last_line(said: IO[bytes] | None) -> str:
    """The last line that the command wrote for people."""
    if said is None or said.closed:
        return ""
    try:
        size = os.fstat(said.fileno()).st_size
        tail = os.pread(said.fileno(), 4096, max(0, size - 4096))
    except (OSError, ValueError):
        return ""
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _cause(line: str, code: int) -> str:
    return line.removeprefix("error: ") or f"the command ended with code {code}"
