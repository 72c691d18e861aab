"""The process that holds the models of this machine: `palate serve`, started by us and with us."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from palate.ui.environment import environment

State = Literal["off", "loading", "ready", "failed"]
KEY = "PALATE_SERVE_KEY"
IDLE = 15 * 60.0
"""Seconds without a question, after which the models leave the memory."""
_END = 10.0  # seconds between the polite end and the other one
_PROGRAM = (sys.executable, "-m", "palate.cli", "serve")


@dataclass(frozen=True, slots=True)
class Serving:
    """How it stands: `why` tells of a failure, `note` of the loading; `names` are as served."""

    state: State
    why: str = ""
    note: str = ""
    url: str = ""
    names: tuple[str, ...] = ()
    key: str = field(default="", repr=False)


class Child:
    """One `palate serve` with these arguments; safe from several threads.

    It holds our end of its standard input: when this process ends, however it does, so does the
    child. The key is drawn anew at each start, and travels by the environment.
    """

    def __init__(self, words: Sequence[str], idle: float = IDLE) -> None:
        self.words, self._idle = tuple(words), idle
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._serving = Serving("off")
        self._said: deque[str] = deque(maxlen=20)
        self._using, self._last = 0, time.monotonic()
        self._over = threading.Event()

    def look(self) -> Serving:
        """How it stands just now."""
        with self._lock:
            return self._serving

    def start(self) -> Serving:
        """Start it, unless it loads or runs."""
        with self._lock:
            if self._over.is_set() or self._serving.state in {"loading", "ready"}:
                return self._serving
            key = secrets.token_hex(24)
            self._said.clear()
            self._serving, self._last = Serving("loading", key=key), time.monotonic()
            options = ("--attached", "--no-store", "--port", "0", "--drain", "0")
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program; models stand after `--`
                    [*_PROGRAM, *options, "--api-key-env", KEY, *self.words],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**environment(), KEY: key},
                    start_new_session=True,  # Ctrl-C is for us, and we end it
                )
            except OSError as error:
                self._serving = Serving("failed", f"palate serve cannot be started: {error}")
                return self._serving
            hearing = threading.Thread(target=self._hear, args=(self._process,), daemon=True)
            hearing.start()
            follow = (self._process, hearing)
            threading.Thread(target=self._follow, args=follow, daemon=True).start()
            threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
            return self._serving

    @contextmanager
    def used(self) -> Iterator[None]:
        """A block in which it is asked: it stays for that long."""
        with self._lock:
            self._using += 1
        try:
            yield
        finally:
            with self._lock:
                self._using, self._last = self._using - 1, time.monotonic()

    def close(self) -> None:
        """End it; it cannot be started again."""
        self._over.set()
        self._end()

    def _end(self) -> None:
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(OSError):
            assert process.stdin is not None, "it was opened as a pipe"
            process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _follow(self, process: subprocess.Popen[bytes], hearing: threading.Thread) -> None:
        """Read its one line, and then wait for its end."""
        assert process.stdout is not None, "it was opened as a pipe"
        with process.stdout as lines:
            line = lines.readline(1_000_000)
            with self._lock, suppress(ValueError, KeyError, TypeError):
                told, key = json.loads(line), self._serving.key
                names = tuple(told["models"])
                self._serving = Serving("ready", url=told["url"], names=names, key=key)
                self._last = time.monotonic()
            while lines.read(4096):
                pass
        code = process.wait()
        hearing.join(_END)  # its last line says why
        with self._lock:
            if self._process is not process:
                return
            was, self._process = self._serving.state, None
            if self._over.is_set() or (was == "ready" and code == 0):
                self._serving = Serving("off")
            else:
                self._serving = Serving("failed", self._why(code))

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what it says last."""
        assert process.stderr is not None, "it was opened as a pipe"
        with process.stderr as lines:
            for line in iter(lambda: lines.readline(4096), b""):
                said = " ".join(line.decode("utf-8", "replace").split())
                with self._lock:
                    if said:
                        self._said.append(said)
                    if self._serving.state == "loading" and said.startswith("palate serve: "):
                        note = said.removeprefix("palate serve: ")
                        self._serving = Serving("loading", note=note, key=self._serving.key)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """End it when nobody has asked for long."""
        while process.poll() is None and not self._over.wait(min(1.0, self._idle)):
            with self._lock:
                still = self._using == 0 and time.monotonic() - self._last > self._idle
                idle = still and self._serving.state == "ready"
            if idle:
                self._end()

    def _why(self, code: int) -> str:
        """Its own last line where it is an error; the lock is held."""
        said = next((one for one in reversed(self._said) if one.startswith("error: ")), None)
        if said is not None:
            return said.removeprefix("error: ")[:400]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        last = f": {self._said[-1][:300]}" if self._said else ""
        return f"the process with the models {how}{last}"
