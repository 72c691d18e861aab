"""What is wrong with settings, in words: pydantic's problems as one clear line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from palate.recipe_text import nearest

_SHOWN = 60  # characters of what was given


def explain(error: ValidationError, section: type[BaseModel], under: str = "") -> str:
    """Every problem of settings that were checked as `section`, one after the other.

    `under` is the key that the section stands under, if not at the top: `server`.
    """
    return "; ".join(in_words(problem, section, under) for problem in error.errors())


def in_words(problem: Any, section: type[BaseModel], under: str = "") -> str:
    """One problem: the dotted key, what is wrong, and the nearest valid key if it is unknown.

    Places in a list are counted from 1. What was given is shown, at most 60 characters of it, but
    no address: a key may be in it.
    """
    parts = problem["loc"]
    names, last = _walk(parts, section)
    where = ".".join([under, *names] if under else names)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{nearest(str(parts[-1]), last.model_fields)}"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    said = str(problem["msg"]).removeprefix("Value error, ")
    if not where:
        return said
    given = repr(problem["input"])
    if "://" in given:
        return f"'{where}': {said}"
    shown = given if len(given) <= _SHOWN else f"{given[: _SHOWN - 1]}…"
    return f"'{where}': {said} (got {shown})"


def _walk(parts: Sequence[Any], section: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The parts of the key by name, and the innermost section on the way to its last part."""
    here: Any = section
    names = []
    for part in parts:
        one, below = next(
            ((one, below) for one in _choices(here) if (below := _under(one, part)) is not None),
            (None, None),
        )
        listed = isinstance(part, int) and get_origin(one) in {list, tuple}
        names.append(str(part + 1) if listed else str(part))
        here = below
        section = next((one for one in _choices(here) if _is_section(one)), section)
    return names, section


def _choices(annotation: Any) -> Iterator[Any]:
    """What a value may be, of `A | B | None`: A and B."""
    if get_origin(annotation) in {Union, UnionType}:
        for one in get_args(annotation):
            yield from _choices(one)
    elif annotation not in {None, NoneType}:
        yield annotation


def _under(one: Any, part: Any) -> Any:
    """What stands under a key of a section or a mapping, or at a place of a list; else None."""
    if _is_section(one):
        field = one.model_fields.get(part)
        # Of a choice between sections pydantic names the one it tried.
        return field.annotation if field is not None else one if part == one.__name__ else None
    origin, inner = get_origin(one), get_args(one)
    if isinstance(part, int) and origin in {list, tuple} and inner:
        return inner[0] if origin is list or inner[-1] is Ellipsis else inner[part % len(inner)]
    return inner[1] if origin is dict and inner else None


def _is_section(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, BaseModel)
