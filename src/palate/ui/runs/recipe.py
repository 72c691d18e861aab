"""A run's resolved recipe as plain values, read anew only when the file has changed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from palate.evaluate.runfolder import Table

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def recipe_in(folder: Path) -> Table:
    """What config.yaml says; empty where it is missing or no recipe."""
    path = folder / "config.yaml"
    try:
        found = path.stat()
    except OSError:
        return {}
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(256)
def _read(path: Path, _modified: int, _size: int) -> Table:
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
