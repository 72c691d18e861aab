"""The settings of `palate capture`: a small YAML file, overrides, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from palate.config import ConfigError, apply_overrides
from palate.problems import in_words
from palate.recipe_text import Loader
from palate.sections import Section

MIB = 2**20


class CaptureConfig(Section):
    """What the capture proxy passes on, what it keeps of it, and where."""

    upstream: str = Field(
        description="Base URL of the provider, as the product had it: https://api.openai.com/v1."
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Whoever reaches it can use the proxy: any but the "
        "loopback address needs a firewall, or a server in front that checks who asks.",
    )
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    db: str = Field("palate.db", description="The store: a file, or a URL of PostgreSQL.")
    spill: str = Field(
        "palate-spill",
        description="Folder in which captures wait for the store; one proxy uses it at a time.",
    )
    spill_limit: int = Field(
        4096, ge=1, description="MiB that may wait there; what comes on top is lost, and counted."
    )
    paths: list[str] = Field(
        ["/chat/completions", "/messages"],
        description="A POST whose path ends with one of these is captured; all others only pass.",
    )
    sample: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of conversations that is kept. Decided by the conversation's hash, so "
        "that a conversation is kept whole or not at all.",
    )
    redact: str | None = Field(
        None,
        description="What every text passes before it reaches a disk: `personal` (what "
        "`data.filters.personal` finds), or a function from text to text of your own, as "
        "`module:function` or `file.py:function`.",
    )
    retention_days: float | None = Field(
        None, gt=0, description="Content older than this is erased from the store, once an hour."
    )
    max_body: int = Field(
        8, ge=1, description="MiB; an exchange with a longer request or answer only passes."
    )
    queue: int = Field(
        64,
        ge=1,
        description="MiB of captures held in memory while the recorder is behind; as many again "
        "for exchanges under way.",
    )
    connect_timeout: float = Field(
        10.0, gt=0, description="Seconds to wait for a connection to the upstream; then 504."
    )
    timeout: float = Field(
        600.0, gt=0, description="Seconds to wait for the upstream's next bytes; then 504."
    )
    drain: int = Field(
        30, ge=0, description="Seconds that streams get to end, and then the queue to be stored."
    )
    conversation_headers: list[str] = Field(
        ["x-session-id", "x-conversation-id"],
        description="Request headers that name the conversation, the most telling first.",
    )
    user_headers: list[str] = Field(
        ["x-user-id"], description="Request headers that name the end user."
    )

    @field_validator("upstream")
    @classmethod
    def _upstream_is_a_base_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("write the provider's base URL, as in https://api.openai.com/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a base URL has no key, user or query: the product sends its own")
        return value.rstrip("/")

    @field_validator("paths")
    @classmethod
    def _paths_begin_with_a_slash(cls, value: list[str]) -> list[str]:
        if wrong := [path for path in value if not path.startswith("/")]:
            raise ValueError(f"'{wrong[0]}' does not begin with a slash")
        return value

    @field_validator("conversation_headers", "user_headers")
    @classmethod
    def _headers_are_lower_case(cls, value: list[str]) -> list[str]:
        return [name.lower() for name in value]

    @property
    def source(self) -> str:
        """The name under which the store lists what was captured here."""
        return f"capture:{urlsplit(self.upstream).netloc}"


def load_settings(
    path: str | None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> CaptureConfig:
    """Settings of a YAML file, then `key=value` overrides, then the flags that are not None.

    Raises `ConfigError` with one line per problem.
    """
    raw: Any = {}
    if path is not None:
        try:
            raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)  # noqa: S506 - safe
        except OSError as error:
            raise ConfigError(f"cannot read the settings {path}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"the settings {path} are not valid YAML: {error}") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"the settings {path} must be a mapping, such as `upstream: …`")
    raw = apply_overrides(raw, overrides)
    raw |= {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return CaptureConfig.model_validate(raw)
    except ValidationError as error:
        lines = [
            in_words(problem, CaptureConfig)
            + (f": give --{problem['loc'][-1]} URL" if problem["type"] == "missing" else "")
            for problem in error.errors()
        ]
        raise ConfigError("capture: " + "; ".join(lines)) from error
