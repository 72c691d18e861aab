"""Which runs there are: folders with a config.yaml under the folder of runs, or one level below.

A run below another folder (a stage, a cell of a sweep) is named `OUTER:INNER`. A name is looked up
among what is there, part by part, so that none can lead anywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from palate.ui.pages import NotThere

SEPARATOR = ":"
_LONGEST = 255  # bytes of a file's name


def runs_in(runs: Path) -> dict[str, Path]:
    """The folder of each run, by name; nothing where there is no such folder."""
    found: dict[str, Path] = {}
    for outer in _folders(runs):
        if _is_run(outer):
            found[outer.name] = outer
        for inner in _folders(outer):
            if _is_run(inner):
                found.setdefault(f"{outer.name}{SEPARATOR}{inner.name}", inner)
    return found


def place_of(runs: Path, name: str) -> Path:
    """The folder of the run `name`; raises `NotThere` where there is none."""
    for parts in ([name], name.split(SEPARATOR, 1)):
        folder = runs
        for part in parts:
            folder = folder / part if _is_plain(part) else folder / "\n"
            if folder.is_symlink():
                break
        else:
            if _is_run(folder):
                return folder
    raise NotThere("there is no run of that name: /runs lists those that are there")


def parts_of(folder: Path) -> list[str]:
    """The names of the runs inside a run (its stages), as the last part of theirs."""
    return sorted(inner.name for inner in _folders(folder) if _is_run(inner))


def _folders(place: Path) -> Iterator[Path]:
    try:
        with os.scandir(place) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    yield from (place / name for name in names if not name.startswith(".") and is_text(name))


def is_text(name: str) -> bool:
    """Whether a file's name is text that a page and an address can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def _is_plain(part: str) -> bool:
    fits = is_text(part) and 0 < len(os.fsencode(part)) <= _LONGEST
    return fits and not part.startswith(".") and not any(c in part for c in "/\\\0")
