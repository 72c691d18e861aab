"""Requests to a sampling server: sent again while that may help, else one clear line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from palate.addresses import NotAllowed, check_url
from palate.client import (
    TooLarge,
    bearer,
    guarded,
    hidden,
    may_pass,
    read_body,
    refusal,
    retry_after,
)

LARGEST = 64_000_000
"""Bytes of a reply: a million tokens with their log-probs."""
_ADVICE = {
    401: "the key is refused: set the variable of key_env to a valid one",
    403: "the key may not use this model",
    404: "there is no such address or model: check url and model",
    405: "this is no sampling server: check url",
}
# Seconds before the first retry, doubled each time; and the most that is waited, whoever asks.
_FIRST, _MOST = 0.5, 60.0


class SamplerStopped(ValueError):
    """A server that cannot be sampled from: one line with cause and cure."""


class Again(Exception):
    """No reply that can be used, and the next may be one; `after` are seconds to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server is, and how patient to be.

    - `url` ends in `/v1`; `model` is the name of the base model there, `adapter` the name under
      which `ServerSampler.push` loads adapters.
    - `key_env`: the environment variable that holds the key, if the server wants one.
    - `timeout`: seconds for a whole reply; `retries`: how often a request is sent again.
    - `concurrency`: requests at once, each with all answers to one prompt.
    """

    url: str
    model: str
    adapter: str = "palate"
    key_env: str | None = None
    timeout: float = 600.0
    retries: int = 5
    concurrency: int = 16

    def __post_init__(self) -> None:
        try:
            check_url(self.url)
        except NotAllowed as error:
            raise SamplerStopped(str(error)) from error

    def key(self) -> str | None:
        """The key, which is nowhere written down."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env)
        if not key:
            raise SamplerStopped(f"the environment variable {self.key_env} holds no key: set it")
        return key


class Wire:
    """The connections to one server; threads may share it."""

    def __init__(
        self,
        settings: ServerSettings,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._wait, self._clock = settings, wait, clock
        self._key = settings.key()
        self._client = guarded(
            httpx.Client(
                headers=bearer(self._key),
                limits=httpx.Limits(max_connections=settings.concurrency),
                follow_redirects=False,
            )
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def ask(self, path: str, body: Mapping[str, Any], read: Callable[[bytes], Any]) -> Any:
        """Post until `read` makes something of the reply; it raises `Again` where it cannot.

        Raises `SamplerStopped` where another try is of no use, or all are spent.
        """
        for number in range(self._settings.retries + 1):
            try:
                return read(self._post(path, body))
            except Again as again:
                why = str(again)
                pause = _FIRST * 2**number if again.after is None else again.after
            if number < self._settings.retries:
                self._wait(min(_MOST, pause))
        tries = self._settings.retries + 1
        raise SamplerStopped(
            f"{self._settings.url} gave no usable reply in {tries} tries, the last time: {why}; "
            "see that the server runs and has room, then go on"
        )

    def _post(self, path: str, body: Mapping[str, Any]) -> bytes:
        seconds = self._settings.timeout
        until, url = self._clock() + seconds, f"{self._settings.url.rstrip('/')}/{path}"
        try:
            with self._client.stream("POST", url, json=dict(body), timeout=seconds) as response:
                raw = read_body(response, LARGEST, until, self._clock)
        except (TooLarge, NotAllowed) as error:
            raise SamplerStopped(str(error)) from error
        except httpx.TimeoutException as error:
            raise Again(f"no reply within {seconds:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Again(hidden(f"{type(error).__name__}: {error}", self._key)) from error
        except httpx.InvalidURL as error:
            raise SamplerStopped(f"url '{self._settings.url}' is none: {error}") from error
        if response.status_code != 200:
            self._refuse(response, raw)
        return raw

    def _refuse(self, response: httpx.Response, raw: bytes) -> None:
        status, why = response.status_code, refusal(response.status_code, raw, self._key)
        if may_pass(status):
            raise Again(why, retry_after(response.headers.get("retry-after")))
        advice = _ADVICE.get(status, "the request is not one that this server takes")
        raise SamplerStopped(f"{self._settings.url} says {why}; {advice}")
