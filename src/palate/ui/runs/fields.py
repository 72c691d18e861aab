"""The fields of the form, made from the sections of a recipe: one for each setting.

A field shows a setting as a text, or as a tick. `shown` and `parsed` are each other's inverse: what
a field cannot show is shown as YAML instead.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from palate.config import RunConfig
from palate.recipe_text import Dumper, Loader
from palate.sections.judging import KINDS
from palate.ui.runs.methods import methods

Kind = Literal["text", "words", "integer", "number", "tick", "choice", "list", "several", "yaml"]
Shown = str | bool
NOT_SHOWN = {"out", "resume", "method"}
"""The first two are the site's; the method has a part of its own."""
PARAGRAPHS = {"system", "rubric"}
"""Settings of several lines."""
SUGGESTED = {
    "kind": tuple(KINDS),
    "model.path": ("smollm2-135m-instruct",),
    "device": ("auto", "cpu", "cuda", "mps"),
    "split_by": ("cluster", "prompt", "tag:"),
    "tokens_per_microbatch": ("auto",),
    "targets": ("all-linear",),
}
_WIDE = 80
_EXACT = 1e15
_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Field:
    """One setting: `key` with dots, how it is asked for, its default as it is shown, its range.

    - `kind`: `words` is a text of several lines, `list` one text a line, `several` one text or
      one a line, `choice` one of `choices`; `yaml` anything.
    - `empty`: an empty field means null.
    - `limits` in signs, for people; `least` and `most` for an input of numbers.
    """

    key: str
    kind: Kind
    default: Shown
    about: str
    empty: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    suggested: tuple[str, ...] = ()
    limits: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def label(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Part:
    """A section: its fields and the sections in it. An `optional` one can be left out whole."""

    key: str
    about: str
    optional: bool
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]


@functools.cache
def run_part() -> Part:
    """The whole recipe."""
    return _part("", RunConfig, optional=False)


@functools.cache
def every_field() -> Mapping[str, Field]:
    """All fields by key, those of the methods as `method.NAME.PARAMETER`."""
    found = {one.key: one for part in every_part().values() for one in part.fields}
    return found | {one.key: one for name in methods() for one in parameters(name)}


@functools.cache
def every_part() -> Mapping[str, Part]:
    """All sections by key; the recipe itself has the key ''."""

    def below(part: Part) -> list[Part]:
        return [part, *(one for inner in part.parts for one in below(inner))]

    return {part.key: part for part in below(run_part())}


@functools.cache
def parameters(name: str) -> tuple[Field, ...]:
    """The fields of a method's parameters."""
    return tuple(_parameter(name, one) for one in methods()[name].parameters)


def shown(field: Field, value: object) -> Shown:
    """A setting as its field shows it; raises `ValueError` where it cannot be."""
    text = _show(field, value)
    if _same(parsed(field, text), value):
        return text
    raise ValueError(f"{field.key} cannot be shown as {field.kind}")


def parsed(field: Field, text: object) -> Any:
    """The setting that a field means; raises `ValueError` with what is wanted instead."""
    if field.kind == "tick":
        if isinstance(text, bool):
            return text
        raise ValueError("on or off is wanted")
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str):
        raise ValueError("a text is wanted")
    if field.empty and not text.strip():
        return None
    if field.required and not text.strip():
        raise ValueError("this is needed")
    return _READ[field.kind](field, text)


def as_yaml(field: Field) -> Field:
    """The same setting, asked for as YAML."""
    return replace(field, kind="yaml", choices=(), suggested=())


def yaml_of(value: object) -> str:
    """A value as YAML, in one line where it is short."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, width=2**20, allow_unicode=True)
    text = text.removesuffix("\n").removesuffix("\n...")
    if len(text) <= _WIDE:
        return text
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True).rstrip("\n")


def read_yaml(text: str) -> Any:
    """What YAML means; `ValueError` in one line."""
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe loader with one more number
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"this is not valid YAML: {' '.join(str(error).split())}") from error


def _show(field: Field, value: object) -> Shown:
    if field.kind == "tick":
        return bool(value)
    if field.kind == "yaml":
        return "" if value is None and field.empty else yaml_of(value)
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return "\n".join(str(one) for one in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)


def _same(one: object, other: object) -> bool:
    """Equal, and of one type: 1 is not true; a pair is a list in YAML."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    numbers = {int, float}
    alike = type(one) is type(other) or {type(one), type(other)} == numbers
    return alike and one == other


def _integer(field: Field, text: str) -> Any:
    if text.strip() in field.suggested:
        return text.strip()
    if not _INTEGER.fullmatch(text.strip()):
        raise ValueError(f"a whole number is wanted, not '{text.strip()}'")
    return int(text)


def _number(field: Field, text: str) -> Any:
    if _INTEGER.fullmatch(text.strip()):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"a number is wanted, not '{text.strip()}'")
    return value


def _choice(field: Field, text: str) -> Any:
    if text not in field.choices:
        raise ValueError(f"one of {', '.join(field.choices)} is wanted")
    return text


def _lines(_field: Field, text: str) -> Any:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _several(field: Field, text: str) -> Any:
    lines = _lines(field, text)
    return lines[0] if len(lines) == 1 else lines


def _as_it_is(_field: Field, text: str) -> Any:
    return text


def _from_yaml(_field: Field, text: str) -> Any:
    return read_yaml(text)


_READ: dict[str, Callable[[Field, str], Any]] = {
    "text": _as_it_is,
    "words": _as_it_is,
    "integer": _integer,
    "number": _number,
    "choice": _choice,
    "list": _lines,
    "several": _several,
    "yaml": _from_yaml,
}


def _part(key: str, owner: type[BaseModel], *, optional: bool) -> Part:
    fields, parts = [], []
    for name, info in owner.model_fields.items():
        if not key and name in NOT_SHOWN:
            continue
        inner = f"{key}.{name}" if key else name
        section = _section_of(info.annotation)
        if section is None:
            fields.append(_field(inner, info))
        else:
            parts.append(_part(inner, section, optional=NoneType in get_args(info.annotation)))
    about = " ".join((owner.__doc__ or "").split("\n\n")[0].split()) if key else ""
    return Part(key, about, optional, tuple(fields), tuple(parts))


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _field(key: str, info: FieldInfo) -> Field:
    kinds = _alternatives(info.annotation)
    kind, choices = _kind(key, kinds)
    name = key.rpartition(".")[2]
    made = Field(
        key=key,
        kind=kind,
        default="",
        about=info.description or "",
        empty=NoneType in kinds,
        required=info.is_required(),
        choices=choices,
        suggested=SUGGESTED.get(key, SUGGESTED.get(name, ())) if kind != "choice" else (),
        **_range(info),
    )
    if info.is_required():
        return made
    default = info.get_default(call_default_factory=True, validated_data={})
    return replace(made, default=shown(made, default))


def _alternatives(annotation: Any) -> list[Any]:
    """What a value may be, of `A | B | None`: A, B and NoneType; `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return [one for inner in get_args(annotation) for one in _alternatives(inner)]
    return [annotation]


def _kind(key: str, kinds: Sequence[Any]) -> tuple[Kind, tuple[str, ...]]:
    plain = [one for one in kinds if one is not NoneType]
    literals = [one for one in plain if get_origin(one) is Literal]
    if len(plain) == 1 and literals:
        return "choice", tuple(str(choice) for choice in get_args(literals[0]))
    if literals and int in plain:
        return "integer", ()  # or one of the words that are suggested
    lists = [one for one in plain if get_origin(one) is list]
    if lists and get_args(lists[0])[0] in {str} | {o for o in get_args(lists[0]) if _words(o)}:
        return ("several" if str in plain else "list"), ()
    if len(plain) == 1 and plain[0] in _PLAIN:
        return ("words" if key.rpartition(".")[2] in PARAGRAPHS else _PLAIN[plain[0]]), ()
    return "yaml", ()


def _words(one: Any) -> bool:
    return get_origin(one) is Literal


_PLAIN: dict[Any, Kind] = {bool: "tick", int: "integer", float: "number", str: "text"}
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _range(info: FieldInfo) -> dict[str, Any]:
    parts = [own for part in get_args(info.annotation) for own in get_args(part)]
    marks = [*info.metadata, *(m for part in parts for m in getattr(part, "metadata", ()))]
    found = {
        sign: float(getattr(mark, name))
        for mark in marks
        for name, sign in _LIMITS.items()
        if hasattr(mark, name)
    }
    return _in_signs(found)


def _in_signs(found: Mapping[str, float]) -> dict[str, Any]:
    return {
        "limits": ", ".join(f"{sign} {limit:g}" for sign, limit in found.items()),
        "least": found.get("≥", found.get(">")),
        "most": found.get("≤", found.get("<")),
    }


_SIGNS = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}


def _parameter(method: str, one: Mapping[str, Any]) -> Field:
    """The field of a method's parameter, from what methods.json says of it."""
    default, choices = one["default"], tuple(one.get("choices", ()))
    kind: Kind = "number"
    if isinstance(default, bool):
        kind = "tick"
    elif choices:
        kind = "choice"
    elif isinstance(default, str):
        kind = "text"
    elif isinstance(default, int):
        kind = "integer"
    made = Field(
        key=f"method.{method}.{one['name']}",
        kind=kind,
        default="",
        about=one["description"],
        empty=default is None,
        choices=choices,
        **_in_signs({sign: one[name] for name, sign in _SIGNS.items() if name in one}),
    )
    return replace(made, default=shown(made, default))
