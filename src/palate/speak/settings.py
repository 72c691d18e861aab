"""Settings given as `key=value` on a command line, checked like a recipe's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from palate.config import ConfigError, Section, apply_overrides
from palate.problems import explain
from palate.speak.speaker import Manner

Kind = TypeVar("Kind", bound=BaseModel)


class AskSettings(Section):
    """How a model is asked; every command that asks one has these."""

    temperature: float = Field(0.8, ge=0, allow_inf_nan=False)
    top_k: int = Field(50, ge=0)
    max_new_tokens: int = Field(128, ge=1)
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    server: dict[str, Any] = Field({}, description="Of a model behind a URL: `model`, `key_env`, …")

    @property
    def manner(self) -> Manner:
        """The same, as a speaker takes it."""
        return Manner(self.max_new_tokens, self.temperature, self.top_k, self.seed)


def read_settings(kind: type[Kind], words: Sequence[str]) -> Kind:
    """`key=value` words as settings; `ConfigError` names the nearest key or what is valid."""
    raw = apply_overrides({}, words)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from error
