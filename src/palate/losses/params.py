"""Parameters of a method: frozen dataclasses whose fields say what they are and where they end."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

P = TypeVar("P")


def param(
    default: float,
    description: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A dataclass field with a description and a range, for a method's parameters."""
    meta = {"description": description, "above": above, "at_least": at_least, "at_most": at_most}
    return field(default=default, metadata=meta)


def build_params(kind: type[P], given: Mapping[str, Any], method: str) -> P:
    """Parameters from a recipe; raises `ValueError` naming the nearest key or the range."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            valid = ", ".join(known) or "it has none"
            hint = f"did you mean '{close[0]}'?" if close else f"its parameters: {valid}"
            raise ValueError(f"method {method} has no parameter '{key}'; {hint}")
        _check(method, key, value, known[key].default, known[key].metadata)
    return kind(**given)


def _check(method: str, key: str, value: Any, default: Any, meta: Mapping[str, Any]) -> None:
    where = f"method.{key} of {method}"
    if isinstance(default, bool) != isinstance(value, bool):
        raise ValueError(f"{where} must be {type(default).__name__}, got {value!r}")
    number = isinstance(default, int | float) and default is not MISSING
    if number and not isinstance(value, int | float):
        raise ValueError(f"{where} must be a number, got {value!r}")
    if isinstance(default, str) and not isinstance(value, str):
        raise ValueError(f"{where} must be text, got {value!r}")
    if not number:
        return
    above, least, most = meta.get("above"), meta.get("at_least"), meta.get("at_most")
    if not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value!r}")
    if above is not None and not value > above:
        raise ValueError(f"{where} must be above {above}, got {value}")
    if least is not None and not value >= least:
        raise ValueError(f"{where} must be at least {least}, got {value}")
    if most is not None and not value <= most:
        raise ValueError(f"{where} must be at most {most}, got {value}")
