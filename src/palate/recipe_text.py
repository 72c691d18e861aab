"""A recipe as text: YAML in and out, overrides with dots, and the nearest valid word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

# `model: PATH` is short for `model: {path: PATH}`, and so on.
SHORTHAND = {"model": "path", "data": "path", "method": "name", "adapter": "kind"}


class Loader(yaml.SafeLoader):
    """YAML 1.1 reads `2e-4` as text; people, and YAML 1.2, mean the number."""


class Dumper(yaml.SafeDumper):
    """Quotes the text `2e-4`, so that it comes back as text."""


for _kind in (Loader, Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+"),
        list("-+0123456789"),
    )


class ConfigError(ValueError):
    """A recipe or an override that cannot be used; the message says how to mend it."""


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`train.epochs=2` sets raw["train"]["epochs"] to 2; values are read as YAML."""
    out: dict[str, Any] = dict(raw)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{override}' is not an override: write key=value, with dots")
        try:
            value = yaml.load(text, Loader)  # noqa: S506 - as in load_config
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"the value of '{override}' is not valid YAML: {error}") from error
        _set_path(out, key.split("."), value)
    for override in overrides:
        _refuse_in_stages(out.get("stages"), override.partition("=")[0])
    return out


def _refuse_in_stages(stages: object, key: str) -> None:
    """A stage's own setting wins over the recipe's, so that an override of it would be lost."""
    first, _, rest = key.partition(".")
    rest = rest or SHORTHAND.get(first, "")
    for number, stage in enumerate(stages if isinstance(stages, list) else (), 1):
        mine = {"method": stage} if isinstance(stage, str) else stage
        if not isinstance(mine, dict) or first not in mine:
            continue
        section = mine[first]
        if isinstance(section, str | list) and first in SHORTHAND:
            section = {SHORTHAND[first]: section}
        whole = first == "method" or not isinstance(section, dict) or not rest
        if whole or rest in section:
            raise ConfigError(
                f"'{key}' has no effect in stage {number}, which sets "
                f"{first if whole else key} by itself: change it there, or give stages whole"
            )


def _set_path(raw: dict[str, Any], parts: list[str], value: object) -> None:
    here = raw
    for depth, part in enumerate(parts[:-1]):
        below = here.get(part)
        if isinstance(below, list) and part in {"method", "stages"}:
            raise ConfigError(
                f"{part} is a list here, of which no part can be set: give it whole, as in "
                f"{part}='[{{name: dpo}}, {{name: nll, weight: 0.2}}]'"
                if part == "method"
                else f"{part} is a list, of which no part can be set: give it whole"
            )
        if below is None and depth == 0 and part == "method":
            below = {"name": "dpo"}  # the default, of which a parameter is set
        if isinstance(below, str | list) and depth == 0 and part in SHORTHAND:
            below = {SHORTHAND[part]: below}
        here[part] = dict(below) if isinstance(below, dict) else {}
        here = here[part]
    last = parts[-1]
    section = here.get(last)
    # Another model or data file keeps the section's other settings; another method does not
    # keep the parameters of the one before.
    keeps = len(parts) == 1 and last in SHORTHAND and last != "method"
    if keeps and isinstance(section, dict) and isinstance(value, str | list):
        here[last] = {**section, SHORTHAND[last]: value}
    else:
        here[last] = value


def nearest(word: str, valid: Iterable[str]) -> str:
    """`; did you mean 'beta'?` if something is close, else the list of what is valid."""
    choices = sorted(valid)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid: {', '.join(choices)}"
