"""One answer of a model behind an OpenAI-compatible URL, piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from palate.addresses import PRIVATE_HOSTS, NotAllowed, check_url
from palate.client import TooLarge, bearer, guarded, hidden, read_events, refusal
from palate.records import Message

LARGEST = 8_000_000
"""Bytes of a stream; an answer's share of them is a hundredth."""
LONGEST = 200_000
"""Characters of an answer."""
_ERROR = 100_000  # bytes of an error's body
Finish = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model of a server. `direct` is one on this machine, which no proxy stands before."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """How to answer: `max_tokens` tokens, within `seconds`; temperature 0 is greedy."""

    temperature: float = 0.8
    max_tokens: int = 512
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of an answer; the last one has `finish`, and `why` says what went wrong."""

    text: str = ""
    finish: Finish | None = None
    why: str | None = None


Tell = Callable[[Piece], None]


class Pairs:
    """Puts the halves of surrogate pairs together, which some servers send one by one."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, text: str) -> str:
        """The text that is whole by now; a half without its other half becomes U+FFFD."""
        text = self._half + text
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return whole(text[: len(text) - len(self._half)])

    def finish(self) -> str:
        """What is left at the end."""
        left, self._half = self._half, ""
        return whole(left)


def whole(text: str) -> str:
    """The text as characters that every encoding can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def ask(endpoint: Endpoint, messages: Sequence[Message], manner: Manner, tell: Tell) -> None:
    """Ask once and tell each piece as it comes; the last piece says how the answer ended.

    Nothing is raised but the caller's own cancellation, which ends the request. No piece has the
    key, nor the server's address, which would tell who is asked.
    """
    try:
        async with asyncio.timeout(manner.seconds):
            last = await _exchange(endpoint, messages, manner, tell)
    except TimeoutError:
        last = _error(f"the answer took more than {manner.seconds:g} s")
    except httpx.TimeoutException:
        last = _error("the server does not answer")
    except httpx.ConnectError:
        last = _error("the server cannot be reached")
    except NotAllowed:  # its words have the address
        last = _error(f"the server has an address that is not asked; see {PRIVATE_HOSTS}")
    except (TooLarge, ValueError) as error:
        last = _error(str(error))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        last = _error(f"the answer broke off ({type(error).__name__})")
    tell(
        Piece(last.text, last.finish, None if last.why is None else hidden(last.why, endpoint.key))
    )


async def _exchange(
    endpoint: Endpoint, messages: Sequence[Message], manner: Manner, tell: Tell
) -> Piece:
    body = {
        "model": endpoint.model,
        "messages": [message.to_dict() for message in messages],
        "temperature": manner.temperature,
        "max_tokens": manner.max_tokens,
        "stream": True,
        **endpoint.extra,
    }
    check_url(endpoint.url)
    client = guarded(
        httpx.AsyncClient(
            headers=bearer(endpoint.key),
            timeout=httpx.Timeout(manner.seconds, connect=10.0),
            trust_env=not endpoint.direct,
            verify=not endpoint.direct,
            follow_redirects=False,
        )
    )
    sent = {name: value for name, value in body.items() if value is not None}
    async with (
        client,
        client.stream("POST", f"{endpoint.url}/chat/completions", json=sent) as response,
    ):
        if response.status_code != 200:
            why = refusal(response.status_code, await _some(response), endpoint.key)
            return _error(f"the server says {why}")
        return await _read(response, tell)


async def _read(response: httpx.Response, tell: Tell) -> Piece:
    """Tell the text of the stream's events; returns its last piece."""
    pairs, told, finish = Pairs(), 0, None
    async for data in read_events(response, LARGEST):
        if data.strip() == "[DONE]":
            break
        text, ended = _delta(data)
        finish = ended or finish
        if told + len(text) > LONGEST:
            raise TooLarge(f"an answer of more than {LONGEST:,} characters")
        told += len(text)
        if text := pairs.add(text):
            tell(Piece(text))
    if finish is None:
        return Piece(pairs.finish(), "error", "the answer broke off before its end")
    if finish not in {"stop", "length"}:
        return Piece(pairs.finish(), "error", f"the server ended the answer ({finish:.40})")
    return Piece(pairs.finish(), "length" if finish == "length" else "stop")


def _delta(data: str) -> tuple[str, str | None]:
    """(text, why it ended) of one event; raises `ValueError` for an error, or what is no event."""
    try:
        body = json.loads(data)
        if "error" in body:
            error = body["error"]
            said = error.get("message") if isinstance(error, dict) else error
            raise ValueError(f"the server says: {' '.join(str(said).split())[:200]}")
        choices = body.get("choices") or [{}]  # the last event may only count tokens
        text = (choices[0].get("delta") or {}).get("content") or ""
        finish = choices[0].get("finish_reason")
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, RecursionError):
        shown = " ".join(whole(data[:80]).split())
        raise ValueError(f"the server sends what is no answer: '{shown}'") from None
    if not isinstance(text, str):
        raise ValueError("the server sends an answer that is no text")
    return text, finish if isinstance(finish, str) else None


async def _some(response: httpx.Response) -> bytes:
    """The beginning of an error's body."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > _ERROR:
            break
    return b"".join(parts)


def _error(why: str) -> Piece:
    return Piece("", "error", why)
