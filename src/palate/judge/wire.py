"""One request to a chat server and its reply, or what came instead.

What can go wrong is of three kinds: `Again` may be mended by asking again (no connection, 429,
5xx, garbage, a reply that breaks off, a time limit), `Unusable` concerns this question alone (a
400, a text that is too long), and `JudgeStopped` all questions (the key, the address).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from palate.judge.crew import within
from palate.judge.errors import JudgeStopped
from palate.judge.verdicts import TokenLogprob
from palate.sections import ServerConfig

LARGEST = 4_000_000
"""Bytes of a reply; a verdict has a hundred, and the log-probs of a long thought some millions."""
REFUSAL = "refusal"
_ALL = {
    401: "the key is refused: set the variable of key_env to a valid one",
    402: "the account has no credit left",
    403: "the key may not use this model",
    404: "there is no such address or model: check url and model",
    405: "this is no chat server: check url",
}


class Again(Exception):
    """No reply that can be used, and the next may be one; `after` are seconds to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Unusable(Exception):
    """The server will not answer this question."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, the log-probs of its tokens where they came, and what it cost.

    `tokens_in` and `tokens_out` are None of a server that does not count.
    """

    text: str
    finish: str | None = None
    tokens: tuple[TokenLogprob, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None

    @property
    def problem(self) -> str | None:
        """Why no verdict can be in it: it was cut off, or refused."""
        if self.finish == "length":
            return "the reply was cut off: raise max_tokens"
        if self.finish in {"content_filter", REFUSAL}:
            return "the server refused to judge it"
        return None

    def to_json(self) -> str:
        """As text that `from_json` reads back to an equal reply."""
        tokens = [[t.token, [list(pair) for pair in t.top]] for t in self.tokens]
        return json.dumps([self.text, self.finish, tokens, self.tokens_in, self.tokens_out])

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Inverse of `to_json`."""
        said, finish, tokens, tokens_in, tokens_out = json.loads(text)
        read = tuple(TokenLogprob(t, tuple((name, p) for name, p in top)) for t, top in tokens)
        return cls(said, finish, read, tokens_in, tokens_out)


class Wire:
    """The connections to one server; threads may share it."""

    def __init__(
        self,
        config: ServerConfig,
        key: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._key, self._clock = config, key, clock
        try:
            check_url(config.url)
        except NotAllowed as error:
            raise JudgeStopped(str(error)) from error
        # Not fewer than there are threads: requests that were given up hold theirs.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=config.concurrency)
        self._client = guarded(
            httpx.Client(
                headers=bearer(key),
                timeout=httpx.Timeout(config.timeout),
                limits=limits,
                follow_redirects=False,
            )
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def post(self, body: Mapping[str, Any], seconds: float) -> Reply:
        """Send one request and wait at most `seconds` for all of the reply.

        Raises `Again`, `Unusable` or `JudgeStopped`; see the module.
        """
        try:
            # httpx limits each read: a server that sends a byte now and then passes all of them.
            status, headers, raw = within(seconds, lambda: self._exchange(body, seconds))
        except TooLarge as error:
            raise Unusable(str(error)) from error
        except NotAllowed as error:
            raise JudgeStopped(str(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Again(f"no reply within {seconds:g} s") from error
        except httpx.TransportError as error:
            raise Again(hidden(_cause(error), self._key)) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise Again(f"a reply that cannot be read: {error}") from error
        if status != 200:
            self._refuse(status, headers, raw)
        # A reply is quoted, cached and kept with the verdict: a server may repeat the key in it.
        reply = read_reply(raw.replace(self._key.encode(), b"***") if self._key else raw)
        return replace(reply, text=hidden(reply.text, self._key))

    def _exchange(
        self, body: Mapping[str, Any], seconds: float
    ) -> tuple[int, httpx.Headers, bytes]:
        url, until = f"{self._config.url}/chat/completions", self._clock() + seconds
        with self._client.stream("POST", url, json=dict(body), timeout=seconds) as response:
            raw = read_body(response, LARGEST, until, self._clock)
            return response.status_code, response.headers, raw

    def _refuse(self, status: int, headers: httpx.Headers, raw: bytes) -> None:
        why = refusal(status, raw, self._key)
        if may_pass(status):
            raise Again(why, retry_after(headers.get("retry-after")))
        if status in _ALL:
            raise JudgeStopped(f"{self._config.url} says {why}; {_ALL[status]}")
        if status < 400:
            raise JudgeStopped(f"{self._config.url} says {why}, and redirects are not followed")
        raise Unusable(why)


def read_reply(raw: bytes) -> Reply:
    """The reply in a body of `chat/completions`; raises `Again` for what is none."""
    try:
        body = json.loads(raw)
        (choice,) = body["choices"]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        shown = " ".join(raw[:80].decode("utf-8", "replace").split())
        raise Again(f"a reply that is none: '{shown}'") from error
    if refusal:
        text, finish = str(refusal), REFUSAL
    if text is None and finish in {"length", "content_filter"}:
        text = ""  # all tokens went into a thought
    if not isinstance(text, str):
        raise Again("a reply without text")
    usage = body.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(text, finish if isinstance(finish, str) else None, _tokens(choice), *counts)


def _tokens(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    """The log-probs of the reply's tokens; none where they are not in the documented form."""
    try:
        listed = choice["logprobs"]["content"]
        return tuple(
            TokenLogprob(
                str(one["token"]),
                tuple((str(top["token"]), float(top["logprob"])) for top in one["top_logprobs"]),
            )
            for one in listed
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _cause(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error})"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return f"the reply broke off ({error})"
    return f"{type(error).__name__}: {error}"
