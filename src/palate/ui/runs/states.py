"""How a run is doing, and what can be done about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palate.ui.runs.log import last_error, tail

Word = Literal[
    "running", "saving", "elsewhere", "complete", "stopped", "refused", "failed", "unfinished"
]
BEGINNINGS = frozenset({".lock", "config.yaml", "plan.json", "environment.json", "rejects.jsonl"})
"""What an attempt leaves behind that failed before any data was frozen (palate.train.folder)."""
PATIENCE = 20.0
"""Seconds that a run has for each way of ending it, before the next may be asked."""
_REFUSED, _STOPPED = 2, 130


@dataclass(frozen=True, slots=True)
class State:
    """A run's state.

    - `running`, or `saving` after it was asked to stop; `elsewhere`: somebody else trains it.
    - `complete`, `stopped` on purpose, `refused` before it began, `failed`, or `unfinished` where
      nothing is known of its end.

    `stop` and `resume` say whether that can be asked, `insist` which harder way of stopping.
    `error` is what it said last, in one line; `began` is a Unix time.
    """

    word: Word
    stop: bool = False
    resume: bool = False
    insist: Literal["", "term", "kill"] = ""
    error: str = ""
    began: float | None = None
    pid: int | None = None
    command: str = ""


def is_free(folder: Path) -> bool:
    """Whether a run can begin there: nothing is, or what a refused attempt left."""
    try:
        return {path.name for path in folder.iterdir()} <= BEGINNINGS
    except FileNotFoundError:
        return True
    except OSError:
        return False


def going(asked: Sequence[tuple[str, float]], now: float | None = None) -> State:
    """Of a process of ours that lives, after these signals."""
    if not asked:
        return State("running", stop=True)
    names = {name for name, _ in asked}
    waited = (time.time() if now is None else now) - max(at for _, at in asked)
    if waited < PATIENCE or "SIGKILL" in names:
        return State("saving")
    return State("saving", insist="kill" if "SIGTERM" in names else "term")


def ended(
    folder: Path,
    log: Path | None,
    *,
    since: int,
    code: int | None,
    asked: Sequence[tuple[str, float]],
) -> State:
    """Of a run in which nobody trains; `log` is what its last process said from byte `since` on."""
    if (folder / "results.json").is_file():
        return State("complete")
    if log is None:
        return State("unfinished", resume=True)
    lines = tail(log, since)
    error = last_error(lines) or ""
    if code is None:  # nobody was there; what it said last tells what it can
        code = _REFUSED if error else _STOPPED if asked else None
    if code is None or code == _STOPPED:
        return State("unfinished" if code is None else "stopped", resume=True)
    if code == _REFUSED:
        begun = any(path.name not in BEGINNINGS for path in folder.iterdir())
        return State("failed" if begun else "refused", resume=begun, error=error)
    if code < 0 and asked:
        return State("stopped", resume=True, error="it was ended without saving")
    return State("failed", resume=True, error=error or _words(code, lines))


def _words(code: int, lines: Sequence[str]) -> str:
    if code < 0:
        return f"it was ended by signal {-code} of the system or of somebody"
    return lines[-1] if lines else f"it ended with exit code {code} and said nothing"
