"""Fixtures, broken: missing and renamed keys, wrong types, hostile values, cut text."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from tests.ingest.fixture_rows import rows

from palate.ingest import FORMATS

SOUND = {name: rows(name) for name in FORMATS}
_JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "up",
    "\x00",
    "\ud83d",
    "\\ud83d",
    "tie",
    "1e400",
    "[{",
    '[{"role": "user"}]',
    '{"a": "\\ud83d"}',
    "\n\nHuman: x",
    "x" * 5_000,
    [],
    [[]],
    [None],
    ["x", 1],
    {},
    {"role": "user"},
    {"role": "assistant", "content": None},
    {"type": "tool_use"},
    {"": ""},
    {"0": {"x": 1}},
]


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def broken_line(seed: int, name: str) -> bytes:
    """A row of the format's fixture with one to three faults, as a line of JSONL."""
    rng = random.Random(seed)
    row = copy.deepcopy(rng.choice(SOUND[name]))
    for _ in range(rng.randint(1, 3)):
        _break(row, rng)
    try:
        line = json.dumps(row, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
    except RecursionError:
        line = b"[" * 2_000
    kind = rng.random()
    if kind < 0.05:
        line = line[: rng.randint(1, len(line))]
    elif kind < 0.1:
        at = rng.randrange(len(line))
        line = line[:at] + bytes(rng.choices(range(14, 256), k=3)) + line[at:]
    return line if line.strip() else b"{"


def _places(value: Any, out: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of everything within a value."""
    waiting = [value]
    while waiting and len(out) < 3_000:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        for key in keys:
            out.append((one, key))
            if isinstance(one[key], dict | list):
                waiting.append(one[key])
    return out


def _break(row: dict[str, Any], rng: random.Random) -> None:
    places = _places(row, [])
    if not places:
        return
    home, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.25:
        del home[key]
    elif kind < 0.35 and isinstance(home, dict):
        home[f"{key}{rng.choice('sX_')}"] = home.pop(key)
    elif kind < 0.45:
        other = rng.choice(SOUND[rng.choice(list(SOUND))])
        there, name = rng.choice(_places(other, []))
        home[key] = copy.deepcopy(there[name])
    elif kind < 0.5:
        home[key] = json.dumps(home[key]) if rng.random() < 0.5 else [home[key], home[key]]
    elif kind < 0.54:
        deep = rng.choice([200, 300, 600])
        home[key] = _nested(deep) if rng.random() < 0.5 else "[" * deep + "]" * deep
    else:
        home[key] = copy.deepcopy(rng.choice(_JUNK))
