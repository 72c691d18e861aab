"""`palate train` in a process of its own, and what it took: for benchmarks of whole runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Trained:
    """How it ended, what it said to stderr, its wall time and its largest resident memory.

    On Linux a child's largest memory begins at that of the process that starts it: keep that small.
    """

    code: int
    said: str
    seconds: float
    peak: int  # bytes

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped by Ctrl-C; it has saved then, and can go on."""
        return self.code == _INTERRUPTED


def train(*words: str, **environment: str) -> Trained:
    """`palate train WORDS`; Ctrl-C reaches it too, and it is waited for."""
    command = [sys.executable, "-m", "palate.cli", "train", *words]
    began = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 our own program
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert child.stderr is not None
    try:
        said, stopped = child.stderr.read(), False
    except KeyboardInterrupt:
        said, stopped = child.stderr.read(), True
    _, status, usage = os.wait4(child.pid, 0)
    code = _INTERRUPTED if stopped else os.waitstatus_to_exitcode(status)
    return Trained(code, said, time.perf_counter() - began, usage.ru_maxrss * 1024)
