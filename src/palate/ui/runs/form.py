"""A recipe as what the fields of the form show, and what they show as a recipe again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from palate.config import RunConfig
from palate.problems import in_words
from palate.recipe_text import Dumper
from palate.ui.runs.fields import (
    Field,
    Part,
    Shown,
    as_yaml,
    every_field,
    every_part,
    parameters,
    parsed,
    read_yaml,
    shown,
    yaml_of,
)
from palate.ui.runs.methods import methods, problems

METHOD, METHOD_YAML = "method", "method.yaml"
"""The method's name, empty where `method.yaml` says all of it: a sum, or another package's."""
Values = dict[str, Any]
"""What the form sends and shows: keys to texts and ticks; `{"yaml": text}` for what a field cannot
show; an optional section's key to whether it is there."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the form means: `config`, and its `text` as a recipe; None where something is wrong.

    `errors` are by the key of a field or a section; what belongs to none has the key ''.
    """

    config: RunConfig | None
    text: str
    errors: Mapping[str, str]


def fill(config: RunConfig) -> Values:
    """What the form shows for a recipe, every field of every section that is there."""
    values: Values = {}
    _fill_part(every_part()[""], config.model_dump(), values)
    return values | _fill_method(config.method)


def fresh() -> Values:
    """What the form shows before anything is chosen: the defaults."""
    values: Values = {one.key: one.default for one in every_field().values()}
    values |= {part.key: False for part in every_part().values() if part.optional}
    return values | {METHOD: "dpo", METHOD_YAML: ""}


def read(values: Mapping[str, Any], out: str) -> Read:
    """Check what the form sends, for a run in the folder `out`.

    Fields that are not sent keep their default; those of sections that are off are not read.
    """
    errors: dict[str, str] = {}
    known = {METHOD, METHOD_YAML, *every_field(), *every_part()}
    strange = [key for key in values if key not in known]
    if strange:
        errors[""] = f"the form has no field '{strange[0]}'"
    raw = _read_part(every_part()[""], values, errors)
    raw["out"] = out
    method = _read_method(values, errors)
    if method is not None:
        raw[METHOD] = method
        errors |= problems(method, rollout=raw.get("rollout") is not None)
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        _sort(error, errors)
        return Read(None, "", errors)
    if errors:
        return Read(None, "", errors)
    return Read(config, _text(raw), errors)


def _fill_part(part: Part, settings: Mapping[str, Any], values: Values) -> None:
    for one in part.fields:
        values[one.key] = _show(one, settings[one.label])
    for inner in part.parts:
        found = settings[inner.key.rpartition(".")[2]]
        if inner.optional:
            values[inner.key] = found is not None
        if found is not None:
            _fill_part(inner, found, values)


def _show(field: Field, value: object) -> Shown | dict[str, str]:
    try:
        return shown(field, value)
    except ValueError:
        return {"yaml": str(shown(as_yaml(field), _plain(value)))}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _fill_method(method: dict[str, Any] | list[dict[str, Any]]) -> Values:
    if isinstance(method, dict) and method["name"] in methods():
        own = {one.label: one for one in parameters(method["name"])}
        given = {key: value for key, value in method.items() if key != "name"}
        try:
            filled = {own[key].key: shown(own[key], value) for key, value in given.items()}
        except (KeyError, ValueError):
            return {METHOD: "", METHOD_YAML: yaml_of(method)}
        rest = {one.key: one.default for one in own.values()}
        return {METHOD: method["name"], METHOD_YAML: "", **rest, **filled}
    return {METHOD: "", METHOD_YAML: yaml_of(method)}


def _read_part(part: Part, values: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any]:
    """The settings in which a section differs from its defaults."""
    raw: dict[str, Any] = {}
    for one in part.fields:
        given = values.get(one.key, one.default)
        try:
            value = _value(one, given)
            if one.required or not _is_default(one, value):
                raw[one.label] = value
        except ValueError as error:
            errors[one.key] = str(error)
    for inner in part.parts:
        there = values.get(inner.key, False) if inner.optional else True
        if not isinstance(there, bool):
            errors[inner.key] = "on or off is wanted"
        elif there:
            found = _read_part(inner, values, errors)
            if found or inner.optional or any(one.required for one in inner.fields):
                raw[inner.key.rpartition(".")[2]] = found
    return raw


def _value(field: Field, given: object) -> Any:
    if isinstance(given, Mapping):
        text = given.get("yaml")
        if set(given) != {"yaml"} or not isinstance(text, str):
            raise ValueError("a text is wanted")
        return read_yaml(text)
    return parsed(field, given)


def _is_default(field: Field, value: object) -> bool:
    try:
        return shown(field, value) == field.default
    except ValueError:
        return False


def _read_method(values: Mapping[str, Any], errors: dict[str, str]) -> Any:
    name = values.get(METHOD, "dpo")
    if name == "":
        try:
            whole = read_yaml(str(values.get(METHOD_YAML, "")))
        except ValueError as error:
            errors[METHOD_YAML] = str(error)
            return None
        if not whole:
            errors[METHOD_YAML] = "a method is wanted, or a list of them"
            return None
        return whole
    if name not in methods():
        errors[METHOD] = f"no method is called '{name}'"
        return None
    found: dict[str, Any] = {"name": name}
    for one in parameters(str(name)):
        try:
            found[one.label] = _value(one, values.get(one.key, one.default))
        except ValueError as error:
            errors[one.key] = str(error)
    return found


def _sort(error: ValidationError, errors: dict[str, str]) -> None:
    """Put each problem beside its field; one that was found already stays as it is."""
    before = set(errors)
    for problem in error.errors():
        key = _key([str(part) for part in problem["loc"]])
        if key in before:
            continue
        said = in_words(problem, RunConfig)
        quoted, _, rest = said.partition(": ")
        if key and quoted.startswith(f"'{key}"):
            said = rest
        errors[key] = f"{errors[key]}; {said}" if key in errors else said


def _key(parts: list[str]) -> str:
    """The field, or else the section, that a place in a recipe belongs to."""
    while parts:
        key = ".".join(parts)
        if key == METHOD or key in every_field() or key in every_part():
            return key
        parts = parts[:-1]
    return ""


def _text(raw: Mapping[str, Any]) -> str:
    """A recipe with what differs from the defaults, in their order."""
    ordered = {key: raw[key] for key in RunConfig.model_fields if key in raw}
    about = "# For palate train. What is not listed\n# keeps its default: docs/config.md.\n"
    return about + yaml.dump(ordered, Dumper=Dumper, sort_keys=False, allow_unicode=True)
