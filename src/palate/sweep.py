"""A sweep: the grid that lists on the command line span, and the folder that remembers it.

`method.beta=0.05,0.1 seed=1,2,3` are two axes and six cells. A comma makes a list only outside
brackets, braces and quotes, so `data=[a.jsonl,b.jsonl]` is one value and
`adapter.targets=[q_proj],[q_proj,v_proj]` are two. Each cell is a run of its own in
`OUT/NAME-sweep/`, named after its values; a cell whose results.json is there is complete.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.config import ConfigError, RunConfig, build_config, load_config
from palate.durable import write_json
from palate.recipe_text import SHORTHAND

STATE = "sweep.json"
_WHERE = ("name", "out", "resume")
_NAME_LIMIT = 120
_CLOSING = {"[": "]", "{": "}", '"': '"', "'": "'"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A dotted key and the texts of its values, in the order given."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the grid: its folder's name, its value on each axis, and its config."""

    name: str
    settings: dict[str, str]
    config: RunConfig

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.config.folder

    @property
    def complete(self) -> bool:
        """Whether the run has come to its end."""
        return (self.folder / "results.json").is_file()

    def results(self) -> dict[str, Any] | None:
        """What results.json says; None of a run that is not complete."""
        try:
            found = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A folder of runs. `cells` are those to run now, `known` all that the folder has had."""

    folder: Path
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    known: tuple[Cell, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted names of everything that varies in the folder."""
        return tuple(self.known[0].settings)

    def save(self) -> None:
        """Write sweep.json: the axes of this call, and every cell with its whole config."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cells = [
            {"name": c.name, "settings": c.settings, "config": c.config.model_dump(mode="json")}
            for c in self.known
        ]
        axes = {axis.key: list(axis.values) for axis in self.axes}
        write_json(self.folder / STATE, {"axes": axes, "cells": cells})


def plan_sweep(recipe: Path | str, words: Sequence[str]) -> Sweep:
    """The sweep of a recipe; cells that its folder knows already keep their folders.

    Raises `ConfigError` for a grid that cannot be run, and where the folder holds a sweep of a
    recipe that differs in more than the values on the axes.
    """
    fixed, axes = read_words(words)
    grid = list(_grid(recipe, fixed, axes))
    folder = Path(grid[0][1].out) / f"{grid[0][1].name}-sweep"
    old = read_state(folder)
    varying = list(dict.fromkeys([key for cell in old for key in cell.settings] + [*_keys(axes)]))
    if old:
        _refuse_changes(folder, old[0].config, grid[0][1], varying)
    known = {_identity(cell.config): cell for cell in old}
    taken = {cell.name.casefold(): cell for cell in old}
    short = _short_names(_keys(axes))
    cells: list[Cell] = []
    for settings, config in grid:
        cell = known.get(_identity(config))
        if cell is None:
            name = _cell_name({short[key]: text for key, text in settings.items()})
            if name.casefold() in taken:
                raise ConfigError(
                    f"{folder / name} was run with other settings than this recipe's: start anew "
                    "with another name=NAME"
                )
            where = {"name": name, "out": str(folder), "resume": "never"}
            cell = Cell(name, settings, config.model_copy(update=where))
            known[_identity(config)] = taken[name.casefold()] = cell
        elif cell in cells:
            raise ConfigError(f"two cells of the grid are one and the same run: {cell.name}")
        cells.append(cell)
    every = tuple(_with_all_keys(cell, varying) for cell in known.values())
    chosen = {cell.name for cell in cells}
    return Sweep(folder, tuple(axes), tuple(c for c in every if c.name in chosen), every)


def read_words(words: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """Overrides apart from axes: `key=value` is the first, `key=a,b` the second.

    Raises `ConfigError` for what is neither, an empty value in a list, a key given twice, and
    a sweep without any list.
    """
    fixed: list[str] = []
    axes: list[Axis] = []
    seen: set[str] = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{word}' is not a setting: write key=value, or key=value,value")
        if key in seen:
            raise ConfigError(f"'{key}' is there twice: write all of its values as one list")
        seen.add(key)
        values = split_list(text)
        if len(values) == 1:
            fixed.append(word)
            continue
        if not all(values):
            raise ConfigError(f"'{word}' has an empty value: write key=value,value without gaps")
        if key in _WHERE:
            raise ConfigError(f"'{key}' cannot be swept: it says where a run lies, not what it is")
        axes.append(Axis(key, tuple(values)))
    if not axes:
        raise ConfigError(
            "nothing to sweep: give at least one key a list of values, as in "
            "method.beta=0.05,0.1,0.3 (one run alone is `palate train`)"
        )
    if "resume=never" in fixed:
        raise ConfigError("a sweep always goes on where it stopped: to start anew, name=NAME")
    return fixed, axes


def split_list(text: str) -> list[str]:
    """The text cut at commas that stand outside brackets, braces and quotes; values stripped."""
    parts, opened = [""], [""]
    for character in text:
        if opened[-1] in {'"', "'"}:
            if character == opened[-1]:
                opened.pop()
        elif character in _CLOSING:
            opened.append(_CLOSING[character])
        elif character == opened[-1]:
            opened.pop()
        elif character == "," and len(opened) == 1:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def read_state(folder: Path) -> list[Cell]:
    """All cells that sweep.json knows, wherever the folder lies now; none without it."""
    path = folder / STATE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        cells = [(str(c["name"]), dict(c["settings"]), dict(c["config"])) for c in raw["cells"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): start anew with name=NAME") from error
    return [
        Cell(name, settings, build_config({**config, "out": str(folder), "name": name}, str(path)))
        for name, settings, config in cells
    ]


def _grid(
    recipe: Path | str, fixed: Sequence[str], axes: Sequence[Axis]
) -> Iterator[tuple[dict[str, str], RunConfig]]:
    """Settings and config of each cell; the last axis varies fastest.

    A section is set before its keys, so that `method.beta` is not lost to `method`.
    """
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = dict(zip(_keys(axes), values, strict=True))
        words = [*fixed, *(f"{key}={text}" for key, text in settings.items())]
        words.sort(key=lambda word: word.partition("=")[0].count("."))
        yield settings, load_config(recipe, words)


def _keys(axes: Sequence[Axis]) -> tuple[str, ...]:
    return tuple(axis.key for axis in axes)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, or all of it where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _cell_name(values: dict[str, str]) -> str:
    """`beta=0.1,seed=2`: one folder's name on any system.

    A value that cannot stand in one keeps what can, and six digits of its hash.
    """
    name = ",".join(f"{key}={_safe(text)}" for key, text in values.items())
    if len(name) <= _NAME_LIMIT:
        return name
    return f"{name[: _NAME_LIMIT - 7]}-{_digest(name)}"


def _safe(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", text)
    return plain if plain == text else f"{plain.strip('_')}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _identity(config: RunConfig) -> str:
    """Everything that decides a run's result, as one text."""
    return json.dumps(config.model_dump(mode="json", exclude=set(_WHERE)), sort_keys=True)


def _refuse_changes(folder: Path, old: RunConfig, new: RunConfig, varying: Sequence[str]) -> None:
    """Raise `ConfigError` for settings that differ and are on no axis."""
    before, after = (_flat(c.model_dump(mode="json", exclude=set(_WHERE))) for c in (old, new))
    differing = [
        key
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
        and not any(key == axis or key.startswith(f"{axis}.") for axis in varying)
    ]
    if differing:
        raise ConfigError(
            f"{folder} holds a sweep of another recipe ({', '.join(differing)}): bring the recipe "
            "back, or start anew with another name=NAME"
        )


def _with_all_keys(cell: Cell, varying: Sequence[str]) -> Cell:
    """The cell with a value for each axis of the folder, also for those that came later."""
    flat = _flat(cell.config.model_dump(mode="json"))
    settings = {key: cell.settings.get(key) or _said(flat, key) for key in varying}
    return Cell(cell.name, settings, cell.config)


def _said(flat: dict[str, Any], key: str) -> str:
    main = f"{key}.{SHORTHAND[key]}" if key in SHORTHAND else key
    value = flat.get(main)
    return "default" if value is None else str(value)


def _flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found
