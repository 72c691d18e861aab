"""What clients of a model's server share: a bounded reply, an error's words, the hidden key."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from palate.addresses import check_host, resolve, usable

AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed."""


Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


class TooLarge(Exception):
    """A reply of more bytes than it may have."""


class Connecting:
    """What connects for httpx: to an address that was looked at, and to no other.

    The name is resolved once, here; the certificate is still the name's. Raises `NotAllowed`.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> Any:
        """A connection to the first address that answers."""
        error: Exception | None = None
        with _unknown_host():
            addresses = resolve(host, port)
        for address in addresses:
            try:
                return self._inner.connect_tcp(address, port, *given, **named)
            except Exception as failed:  # noqa: BLE001 - raised below, if no other answers
                error = failed
        raise error or httpx.ConnectError(f"{host} has no address")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ConnectingLater(Connecting):
    """The same of an event loop."""

    async def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> Any:
        """A connection to the first address that answers."""
        check_host(host)
        error: Exception | None = None
        with _unknown_host():
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for address in usable(host, dict.fromkeys(str(one[4][0]) for one in found)):
            try:
                return await self._inner.connect_tcp(address, port, *given, **named)
            except Exception as failed:  # noqa: BLE001 - raised below, if no other answers
                error = failed
        raise error or httpx.ConnectError(f"{host} has no address")


@contextmanager
def _unknown_host() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error


def guarded(client: Client) -> Client:
    """The client, which from now on connects only where `palate.addresses` lets it.

    A proxy of the environment (HTTPS_PROXY) is asked as it was: it looks names up by itself.
    """
    transport: Any = client._transport  # noqa: SLF001 - httpx has no setting for it
    pool = transport._pool  # noqa: SLF001
    later: Any = isinstance(client, httpx.AsyncClient)
    pool._network_backend = (ConnectingLater if later else Connecting)(pool._network_backend)  # noqa: SLF001
    return client


def bearer(key: str | None) -> dict[str, str]:
    """The header that shows the key, if there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def hidden(text: str, key: str | None) -> str:
    """The text without the key, which some servers repeat."""
    return text.replace(key, "***") if key else text


def read_body(
    response: httpx.Response, most: int, until: float, clock: Callable[[], float]
) -> bytes:
    """All of a streamed reply, of at most `most` bytes, read before `clock()` passes `until`.

    Raises `TooLarge`, and `httpx.ReadTimeout` for a server that sends a byte now and then, which
    passes httpx's own limit for each read.
    """
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > most:
            raise TooLarge(f"a reply of more than {most // 1_000_000} MB")
        if clock() > until:
            raise httpx.ReadTimeout("too slow")
        parts.append(part)
    return b"".join(parts)


async def read_events(response: httpx.Response, most: int) -> AsyncIterator[str]:
    """The data of each server-sent event of a stream of at most `most` bytes.

    Bytes that are no UTF-8 become U+FFFD, and a character whose bytes come in two pieces is whole.
    Comments and names of events are left out. Raises `TooLarge`.
    """
    data: list[str] = []
    rest, size = b"", 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most:
            raise TooLarge(f"a reply of more than {most // 1_000_000} MB")
        *lines, rest = (rest + part).split(b"\n")
        for line in (one.rstrip(b"\r") for one in lines):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            elif not line and data:
                yield "\n".join(data)
                data = []
    if data:
        yield "\n".join(data)  # some servers end without the empty line


def refusal(status: int, raw: bytes, key: str | None) -> str:
    """The status and what the error's body says, in at most 200 characters, without the key."""
    said = hidden(_message(raw), key)
    return f"{status}: {said}" if said else str(status)


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in AGAIN or status >= 500


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, which has seconds or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message(raw: bytes) -> str:
    """Of `{"error": {"message": …}}`, `{"error": …}` or `{"message": …}`; else the body itself."""
    try:
        body = json.loads(raw)
        error = body.get("error", body)
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = raw[:1000].decode("utf-8", "replace")
    return " ".join(str(said).split())[:200]
