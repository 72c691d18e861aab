"""What a recipe can begin from: the recipes that come along, those kept here, and earlier runs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palate.config import load_config
from palate.ui.runs.folders import is_text
from palate.ui.runs.form import Values, fill
from palate.ui.runs.methods import methods
from palate.ui.runs.states import is_free

_PACKAGE = Path(__file__).resolve().parents[2]
_COMMAND = "palate train"
_PLACEHOLDER = "my-"  # how the paths begin that a reader of a shipped recipe replaces
_ABOUT = 320
_FOUND = re.compile(r"The data: .*?(?= Any setting can )")
"""What `palate init` says at the head of a recipe: what it found, and why the method fits."""


@dataclass(frozen=True, slots=True)
class Base:
    """A recipe to begin from, under the key by which the form's address names it."""

    key: str
    name: str
    kind: Literal["recipe", "kept", "run"]
    about: str
    path: Path


def bases(runs: Path) -> Mapping[str, Base]:
    """All of them by key; only these can be begun from, so that no key is a path."""
    there = sorted(runs.glob("*/config.yaml"))
    folders = [one for one in there if one.parent.name[0] != "." and is_text(one.parent.name)]
    begun = {path.parent.name for path in folders}
    kept = [path for path in sorted((runs / ".recipes").glob("*.yaml")) if path.stem not in begun]
    found = [
        *(Base(f"run/{path.parent.name}", path.parent.name, "run", "", path) for path in folders),
        *(Base(f"kept/{path.stem}", path.stem, "kept", _found(path), path) for path in kept),
        *(
            Base(f"recipe/{path.stem}", path.stem, "recipe", _about(path), path)
            for path in shipped()
        ),
    ]
    return {base.key: base for base in found}


def shipped() -> list[Path]:
    """The recipes that come with the program: inside the package, or in a checkout.

    In the order of the methods; those that are called otherwise behind them.
    """
    order = {name: number for number, name in enumerate(methods())}
    for folder in (_PACKAGE / "_recipes", _PACKAGE.parents[1] / "recipes"):
        if (folder / "dpo.yaml").is_file():
            found = sorted(folder.glob("*.yaml"))
            return sorted(found, key=lambda path: order.get(path.stem, len(order)))
    return []


def begin(base: Base, runs: Path, store: str) -> Values:
    """What the form shows at first: the base's recipe, under a name that is free.

    The placeholder of a shipped recipe becomes the site's own store, unless a password may be in
    its address. Raises `ConfigError` for a recipe that cannot be read.
    """
    config = load_config(base.path)
    values = fill(config)
    values["name"] = free_name(runs, config.name if base.kind == "kept" else base.name)
    if base.kind == "recipe" and str(config.data.path).startswith(_PLACEHOLDER):
        values["data.path"] = "" if "://" in store else store
    return values


def free_name(runs: Path, wanted: str) -> str:
    """The name, or with the lowest number behind it under which there is no run yet."""
    stem = re.sub(r"[^\w.+ -]+", "-", wanted).strip(" .-_") or "run"
    name, number = stem, 1
    while not is_free(runs / name):
        number += 1
        name = f"{re.sub(r'-[0-9]+$', '', stem)}-{number}"
    return name


def _about(path: Path) -> str:
    """The comment at the head of a recipe, without the command that it shows; long ones are cut."""
    return textwrap.shorten(_comment(path), _ABOUT, placeholder=" …")


def _found(path: Path) -> str:
    """What was found in the data; empty for a recipe that `palate init` did not write."""
    found = _FOUND.search(_comment(path))
    return found[0] if found else ""


def _comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ")
        if not text.startswith(_COMMAND):
            lines.append(text)
    return " ".join(lines)
