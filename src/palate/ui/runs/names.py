"""Names of runs: each is one folder under the folder of runs, and never a way out of it."""

from __future__ import annotations

import re
from pathlib import Path

from palate.ui.pages import NotThere

_NEW = re.compile(r"[^\W_][\w.+ -]{0,79}")
_TAKEN = {"compare", "new"}  # addresses of pages


def check_name(name: str) -> None:
    """Raise `ValueError` for a name that a run cannot be started under here.

    Narrower than what a recipe admits: it becomes a file and an address too.
    """
    if not _NEW.fullmatch(name) or name != name.strip() or name.endswith((".", ".json")):
        raise ValueError(
            "a name begins with a letter or digit and has at most 80 letters, digits, spaces and "
            "any of . _ + -"
        )
    if name in _TAKEN:
        raise ValueError(f"the name '{name}' is the address of a page: choose another")


def folder_of(runs: Path, name: str) -> Path:
    """The folder of a run that is there; raises `NotThere` for anything else.

    A link that leads elsewhere is none, whatever is behind it.
    """
    plain = bool(name) and not name.startswith(".") and not any(c in name for c in "/\\\0")
    folder = runs / name if plain else runs
    if not plain or folder.is_symlink() or not (folder / "config.yaml").is_file():
        raise NotThere("there is no run of that name")
    return folder
