"""A constitution: a YAML file of principles, read strictly, and which one is drawn when.

Bai et al. 2022 (Constitutional AI, arXiv 2212.08073): each principle has a request for a critique,
one for a revision, and a question by which two answers are compared.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from palate.config import ConfigError, Section, nearest
from palate.problems import explain
from palate.recipe_text import Loader
from palate.records import canonical_json, digest

DEFAULT = "default"
_HERE = Path(__file__).parent


class Principle(Section):
    """What a good answer does; a principle of twice the weight is drawn first twice as often."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    critique: str = Field(min_length=1)
    revise: str = Field(min_length=1)
    compare: str = Field(min_length=1)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    tags: tuple[str, ...] = ()

    @field_validator("critique", "revise", "compare")
    @classmethod
    def _one_paragraph(cls, value: str) -> str:
        said = " ".join(value.split())
        if not said:
            raise ValueError("say something")
        return said


class Shot(Section):
    """A worked example, shown before the model's own turn: two requests and what to answer."""

    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    critique_request: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision_request: str = Field(min_length=1)
    revision: str = Field(min_length=1)


class Constitution(Section):
    """Principles, and the examples of their use; no examples (`[]`) asks without any."""

    name: str = Field(min_length=1)
    about: str = ""
    principles: tuple[Principle, ...] = Field(min_length=1)
    examples: tuple[Shot, ...] = ()

    @property
    def hash(self) -> str:
        """Twelve hex digits of everything that it says."""
        return digest(self.model_dump(mode="json"))[:12]

    def of(self, wanted: str) -> Principle:
        """The principle of that id; `ConfigError` names the nearest."""
        for principle in self.principles:
            if principle.id == wanted:
                return principle
        ids = [principle.id for principle in self.principles]
        raise ConfigError(f"there is no principle '{wanted}'{nearest(wanted, ids)}")

    def only(self, wanted: Sequence[str]) -> Constitution:
        """The same with some principles alone, by id or by tag; all where none is named."""
        if not wanted:
            return self
        tags = {tag for principle in self.principles for tag in principle.tags}
        for name in wanted:
            if name not in tags:
                self.of(name)
        names = set(wanted)
        kept = tuple(p for p in self.principles if p.id in names or names & set(p.tags))
        return self.model_copy(update={"principles": kept})


def load_constitution(path: str | Path) -> Constitution:
    """Read a constitution; ``default`` is ours. Raises `ConfigError`, one clear line.

    A file without `examples` is shown those of the default.
    """
    place = _HERE / "default.yaml" if str(path) == DEFAULT else Path(path).expanduser()
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no constitution {path}: give a YAML file of principles, or '{DEFAULT}'"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read the constitution {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the constitution {path} is not UTF-8 text") from error
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 - a safe loader with one more number
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the constitution {path} is not valid YAML{line}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"the constitution {path} must be a mapping with a name and principles")
    found = _checked(raw, f"the constitution {path}")
    if "examples" not in raw:
        return found.model_copy(update={"examples": load_constitution(DEFAULT).examples})
    return found


def _checked(raw: dict[str, Any], origin: str) -> Constitution:
    try:
        found = Constitution.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {explain(error, Constitution)}") from error
    ids = Counter(principle.id for principle in found.principles)
    twice = [name for name, number in ids.items() if number > 1]
    if twice:
        raise ConfigError(f"{origin}: two principles are called '{twice[0]}'")
    return found


def draw(
    principles: Sequence[Principle], count: int, *, seed: int, prompt: str, use: str
) -> list[Principle]:
    """`count` principles for a prompt (its key): none again before all have been drawn.

    Weighted sampling without replacement (Efraimidis and Spirakis 2006): each principle gets the
    key u^(1/w) of its own uniform number u, and the largest keys come first. u is a pure function
    of the seed, the prompt, what the draw is for (`use`), and the principle's id, so that neither
    the order of the prompts nor that of the principles changes what is drawn.
    """
    drawn: list[Principle] = []
    while len(drawn) < count:
        cycle = len(drawn) // len(principles)
        keys = {
            p.id: math.log(_uniform([seed, use, prompt, cycle, p.id])) / p.weight
            for p in principles
        }
        drawn += sorted(principles, key=lambda p: (-keys[p.id], p.id))
    return drawn[:count]


def _uniform(parts: list[Any]) -> float:
    """A number in (0, 1) that the parts decide."""
    found = hashlib.sha256(canonical_json(parts).encode()).digest()
    return (int.from_bytes(found[:6], "big") + 0.5) / 2**48
