"""A model behind an OpenAI-compatible server: where it is, and how much may be asked of it."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from palate.sections.section import Section

OWN_FIELDS = ("model", "messages", "stream", "n")
"""What a request says by itself, so that `extra` may not."""


class ServerConfig(Section):
    """A server that answers `POST …/chat/completions`, and the limits of asking it."""

    url: str = Field(
        description="Where the API begins, with its version, as `http://127.0.0.1:8000/v1`."
    )
    model: str = Field(description="Name of the model, as the server calls it.")
    key_env: str | None = Field(
        None,
        description="Environment variable that holds the key; default: none is sent. The key "
        "itself never stands in a recipe.",
    )
    timeout: float = Field(
        60.0, gt=0, le=3600, description="Longest wait for one reply, in seconds, all of it."
    )
    deadline: float = Field(
        600.0,
        gt=0,
        description="No retry begins later than this after a question was first asked, in seconds.",
    )
    retries: int = Field(
        5,
        ge=0,
        le=50,
        description="How often a question is asked again after no reply, a 429 or a 5xx. The wait "
        "doubles from half a second, or is what the server's Retry-After says.",
    )
    concurrency: int = Field(8, ge=1, le=256, description="Questions that are asked at once.")
    requests_per_minute: float | None = Field(
        None, gt=0, description="Most requests a minute, retries included; default: no limit."
    )
    max_requests: int | None = Field(
        None, ge=1, description="Stop after this many requests, retries included."
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        description="Stop before more than this is spent, in the unit of the prices. Needs both "
        "prices.",
    )
    price_in: float | None = Field(
        None, ge=0, description="Price of a million tokens that are sent."
    )
    price_out: float | None = Field(
        None, ge=0, description="Price of a million tokens that come back."
    )
    max_failures: int = Field(
        10,
        ge=1,
        description="Stop after this many questions in a row without a reply that can be used: "
        "then the server is at fault, and not one of the texts.",
    )
    max_tokens: int = Field(
        16,
        ge=2,
        description="Longest reply, in tokens. A model that thinks aloud before it answers needs "
        "thousands.",
    )
    extra: dict[str, Any] = Field(
        {},
        description="More fields of each request, for what a server knows beside the standard, as "
        "`{reasoning_effort: low}`; null leaves a field of ours out, as `{temperature: null}`.",
    )
    cache: str | None = Field(
        None,
        description="SQLite file that keeps every reply, so that no question is paid for twice; "
        "default: none is kept.",
    )

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("the url must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("no key, query or fragment belongs into the url; name key_env instead")
        return value.rstrip("/").removesuffix("/chat/completions")

    @field_validator("extra")
    @classmethod
    def _nothing_of_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = [name for name in value if name in OWN_FIELDS]
        if own:
            raise ValueError(f"extra may not set {', '.join(own)}: every request says that itself")
        return value

    @model_validator(mode="after")
    def _a_cost_has_prices(self) -> ServerConfig:
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("max_cost needs price_in and price_out, to count by")
        return self

    @property
    def most_tokens(self) -> int:
        """Longest reply that any of the request's fields allows, in tokens."""
        others = [self.extra.get(name) for name in ("max_tokens", "max_completion_tokens")]
        return max([self.max_tokens, *(value for value in others if isinstance(value, int))])

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """What these tokens cost, in the unit of the prices; NaN without prices."""
        if self.price_in is None or self.price_out is None:
            return math.nan
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6
