"""Whether a process that was started once is still the same one, and how it is signalled.

A number of a process is given out again after it has ended. So a process is known by its number
and its birth, and nothing is ever sent to a number alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted behind the name


@dataclass(frozen=True, slots=True)
class Known:
    """A process: its number, and its birth as `birth` tells it."""

    pid: int
    born: str


def birth(pid: int) -> str | None:
    """When the living process `pid` began, as a text to compare; None where there is none.

    On Linux that is the boot and the clock ticks since then (proc(5), field 22 of stat), elsewhere
    what `ps` says. A process that has ended and was not waited for is none.
    """
    if not (_PROC / "self" / "stat").exists():
        return _birth_by_ps(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    parts = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if parts[_STATE] in {"Z", "X"} else f"{boot} {parts[_STARTED]}"


def is_alive(known: Known) -> bool:
    """Whether that very process lives."""
    return birth(known.pid) == known.born


def send(known: Known, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal that very process, or with `group` all of the session it leads; False if it is gone.

    On Linux a handle of the process (pidfd_open(2)) keeps its number from being another's even if
    it ends in between.
    """
    handle: int | None = None
    try:
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(known.pid)
        if not is_alive(known):
            return False
        if group:
            os.killpg(known.pid, number)
        elif handle is not None:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(known.pid, number)
    except ProcessLookupError:
        return False
    else:
        return True
    finally:
        if handle is not None:
            os.close(handle)


def _birth_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, began = said.stdout.strip().partition(" ")
    return began.strip() if began and not state.startswith("Z") else None
