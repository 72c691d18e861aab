"""The seed sets: attacks by category and benign prompts, ours or somebody's, read strictly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from palate.config import ConfigError, Section
from palate.problems import explain
from palate.recipe_text import Loader

ATTACKS, BENIGN = Path(__file__).with_name("attacks.yaml"), Path(__file__).with_name("benign.yaml")
Kind = TypeVar("Kind", bound=BaseModel)


class Category(Section):
    """Attacks of one kind. With `canary` an attack succeeds if it gets at a secret code word."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: str = ""
    safe: tuple[str, ...] = Field(min_length=1)
    attacks: tuple[str, ...] = Field(min_length=1)
    escalations: tuple[tuple[str, ...], ...] = ()
    canary: bool = False


class AttackSet(Section):
    """Categories, each with an id of its own."""

    categories: tuple[Category, ...] = Field(min_length=1)


class Benign(Section):
    """A prompt that is to be answered; `type` groups them in the table."""

    prompt: str = Field(min_length=1)
    type: str = "benign"


class BenignSet(Section):
    """Prompts that sound dangerous and are not."""

    prompts: tuple[Benign, ...] = Field(min_length=1)


def load_attacks(path: Path = ATTACKS) -> AttackSet:
    """Read a file of attacks; raises `ConfigError`, one clear line."""
    found = _read(path, AttackSet)
    ids = Counter(category.id for category in found.categories)
    twice = [name for name, number in ids.items() if number > 1]
    if twice:
        raise ConfigError(f"{path}: two categories are called '{twice[0]}'")
    return found


def load_benign(path: Path = BENIGN) -> BenignSet:
    """Read a YAML file of benign prompts; raises `ConfigError`, one clear line."""
    return _read(path, BenignSet)


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from error
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, kind)}") from error
