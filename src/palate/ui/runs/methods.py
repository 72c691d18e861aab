"""What the form knows of each method, without torch.

`methods.json` is written by `make docs` from the registry of losses. The parameters are checked by
the same function as in training; what else a recipe must fulfil, training says.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from palate.losses.params import build_params

_FILE = Path(__file__).with_name("methods.json")
_GROUP = "palate.losses"  # of entry points, through which other packages bring methods


@dataclass(frozen=True, slots=True)
class Facts:
    """A method: what `palate methods` says of it, and its parameters with default and range.

    `refused_with_rollout` says why a recipe of it may have no `rollout`, `refused_without_rollout`
    why it must; None where it need not.
    """

    name: str
    title: str
    group: str
    data: str
    when: str
    refused_with_rollout: str | None
    refused_without_rollout: str | None
    parameters: tuple[Mapping[str, Any], ...]


@functools.cache
def methods() -> Mapping[str, Facts]:
    """Our methods by name, in the order of their groups."""
    raw = json.loads(_FILE.read_text(encoding="utf-8"))
    return {one["name"]: Facts(**{**one, "parameters": tuple(one["parameters"])}) for one in raw}


def problems(method: object, *, rollout: bool) -> dict[str, str]:
    """What is wrong with a recipe's `method`, as (key, one line).

    Keys are `method.NAME.PARAMETER` for a parameter, `method`, and `rollout`.
    """
    entries = method if isinstance(method, Sequence) else [method]
    found: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Mapping) and "name" in entry:
            found |= _of_one(entry, summed=isinstance(method, Sequence))
    if isinstance(method, Mapping) and (facts := methods().get(str(method.get("name")))):
        why = facts.refused_with_rollout if rollout else facts.refused_without_rollout
        if why:
            found["rollout"] = why
    return found


def _of_one(entry: Mapping[str, Any], *, summed: bool) -> dict[str, str]:
    name = str(entry["name"])
    if name not in methods():
        why = _unknown(name)
        return {"method": why} if why else {}
    kind = _parameters(name)
    found = {}
    for key, value in entry.items():
        if key == "name" or (summed and key == "weight"):
            continue
        try:
            build_params(kind, {key: value}, name)
        except ValueError as error:
            found[f"method.{name}.{key}"] = str(error)
    return found


def _unknown(name: str) -> str | None:
    """Why there is no such method; None of one that another package brings."""
    others = {point.name for point in entry_points(group=_GROUP)}
    if name in others:
        return None
    close = difflib.get_close_matches(name.lower(), [*methods(), *others], n=1, cutoff=0.5)
    return f"no method is called '{name}'" + (f"; did you mean '{close[0]}'?" if close else "")


@functools.cache
def _parameters(name: str) -> type:
    """The parameters as the frozen dataclass that training has of them."""
    fields = [
        (one["name"], Any, field(default=one["default"], metadata=dict(one)))
        for one in methods()[name].parameters
    ]
    return make_dataclass(f"Parameters of {name}", fields, frozen=True)
