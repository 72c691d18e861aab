"""The end of what a run has said, for a page: bounded, plain text, without keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

BYTES = 32_768
LINES = 40
WIDTH = 400
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # shorter values are words such as `true`
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_PASSWORD = re.compile(r"(?<=://)[^\s/@]+@")
_KEY = re.compile(
    r"\bsk-[\w-]{16,}|\bhf_\w{16,}|\bgh[a-z]_\w{20,}|\bgithub_pat_\w{20,}|\bAIza[\w-]{30,}|"
    r"(?<=[Bb]earer )\S{8,}"
)


def tail(
    path: Path,
    since: int = 0,
    environment: Mapping[str, str] | None = None,
    lines: int = LINES,
) -> list[str]:
    """The last lines of a file, at most `lines` of `WIDTH` characters, from byte `since` on.

    Reads at most `BYTES` bytes, however long the file or a line is. Left out are control
    characters, addresses' passwords, what looks like a key, and the values of `environment`
    (default: ours) whose names say that they are secret. Empty where there is no file, or a link.
    """
    try:
        if path.is_symlink():  # it may lead to any file that we can read
            return []
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(since, size - BYTES)
            file.seek(begin)
            raw = file.read(BYTES)
    except OSError:
        return []
    text = raw.decode("utf-8", errors="replace")
    if begin > since and "\n" in text:
        text = text.partition("\n")[2]  # the first line is a part of one
    text = _hidden(text, os.environ if environment is None else environment)
    # Of a line that was drawn over itself the last state counts.
    last = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    plain = ["".join(c for c in _ESCAPE.sub("", line) if c.isprintable()) for line in last]
    return [_cut(line.rstrip()) for line in plain if line.strip()][-lines:]


def last_error(lines: list[str]) -> str | None:
    """What the command line said last in its line `error: …`."""
    found = [line for line in lines if line.startswith("error: ")]
    return found[-1].removeprefix("error: ") if found else None


def _hidden(text: str, environment: Mapping[str, str]) -> str:
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return _KEY.sub("***", _PASSWORD.sub("***@", text))


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
