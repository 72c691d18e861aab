"""Parameters of a method: frozen dataclasses whose fields say what they are and where they end."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

P = TypeVar("P")


def param(
    default: float | str | None,
    description: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with a description and a range, for a method's parameters.

    A number whose default is None is decided from the data when a run starts
    (`Method.resolve`).
    """
    limits = {"above": above, "at_least": at_least, "below": below, "at_most": at_most}
    return field(
        default=default, metadata={"description": description, "choices": choices, **limits}
    )


def build_params(kind: type[P], given: Mapping[str, Any], method: str) -> P:
    """Parameters from a recipe; raises `ValueError` naming the nearest key or the range."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            valid = ", ".join(known) or "it has none"
            hint = f"did you mean '{close[0]}'?" if close else f"its parameters: {valid}"
            raise ValueError(f"method {method} has no parameter '{key}'; {hint}")
        _check(method, key, value, known[key].default, known[key].metadata)
    return kind(**given)


def _check(method: str, key: str, value: Any, default: Any, meta: Mapping[str, Any]) -> None:
    where = f"method.{key} of {method}"
    if isinstance(default, bool) or isinstance(value, bool):
        if isinstance(default, bool) != isinstance(value, bool):
            raise ValueError(f"{where} must be {_kind(default)}, got {value!r}")
        return
    if isinstance(default, str):
        choices = meta.get("choices", ())
        if not isinstance(value, str) or (choices and value not in choices):
            wanted = f"one of {', '.join(choices)}" if choices else "text"
            raise ValueError(f"{where} must be {wanted}, got {value!r}")
        return
    if default is MISSING or (value is None and default is None):
        return
    if not isinstance(value, int | float):
        raise ValueError(f"{where} must be a number, got {value!r}")
    _check_number(where, value, default, meta)


def _check_number(where: str, value: float, default: Any, meta: Mapping[str, Any]) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value!r}")
    if isinstance(default, int) and value != int(value):
        raise ValueError(f"{where} must be a whole number, got {value!r}")
    for name, words, holds in _LIMITS:
        limit = meta.get(name)
        if limit is not None and not holds(value, limit):
            raise ValueError(f"{where} must be {words} {limit}, got {value}")


_LIMITS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("above", "above", operator.gt),
    ("at_least", "at least", operator.ge),
    ("below", "below", operator.lt),
    ("at_most", "at most", operator.le),
)


def _kind(default: Any) -> str:
    return "a number" if default is None else type(default).__name__
