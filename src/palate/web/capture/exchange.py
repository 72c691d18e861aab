"""One exchange on its way through the proxy: what is kept of it for the recorder.

Of the headers only those are kept that name the conversation and the user. Whatever looks like a
credential travels along, in memory, for one purpose: the recorder takes it out of the text, should
the request or the answer repeat it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from time import time
from typing import Any
from urllib.parse import parse_qsl

from palate.web.asgi import Headers, header
from palate.web.capture.frames import Frame
from palate.web.capture.settings import MIB, CaptureConfig

# Headers and parameters that carry a key, and those that may.
_KEY = re.compile(r"authorization$|api[-_]?key$|^key$|^sig$|access[-_]token$", re.IGNORECASE)
_MAYBE = re.compile(r"auth|key|token|secret|cookie|password|signature", re.IGNORECASE)
# Shorter values, and plain words in a cookie, would be taken out of innocent text.
_SHORTEST_KEY, _SHORTEST_MAYBE = 8, 12  # characters


def credentials(headers: Headers, query: bytes) -> tuple[str, ...]:
    """The values in a request's headers and query that are keys, or look like one."""
    named = [(name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in headers]
    named += parse_qsl(query.decode("latin-1"))
    found: set[str] = set()
    for name, text in named:
        kind = _kind(name)
        if kind == "key":
            values = [text, text.partition(" ")[2].strip()]  # `Bearer KEY`
            found |= {value for value in values if len(value) >= _SHORTEST_KEY}
        elif kind == "maybe":
            values = [text, *(part.partition("=")[2] for part in text.split("; "))]
            found |= {value for value in values if _looks_secret(value)}
    # The longest first: a part of a key must not be taken out before the whole.
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(1024)  # clients send the same names with each request
def _kind(name: str) -> str:
    return "key" if _KEY.search(name) else "maybe" if _MAYBE.search(name) else ""


def _looks_secret(value: str) -> bool:
    return len(value) >= _SHORTEST_MAYBE and any(c.isdigit() for c in value)


class Room:
    """The memory that all exchanges under way may fill together, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.filled = limit, 0


class Exchange:
    """Collects a request and its answer; `frame` is what the recorder gets."""

    __slots__ = ("_keys", "_limit", "_meta", "_request", "_response", "_room", "_sizes", "dropped")

    def __init__(self, scope: Any, config: CaptureConfig, room: Room) -> None:
        headers = scope["headers"]
        named = [header(headers, name) for name in config.conversation_headers]
        users = [header(headers, name) for name in config.user_headers]
        self._meta: dict[str, Any] = {
            "kind": "exchange",
            "time": time(),
            "request_encoding": header(headers, "content-encoding"),
            "conversation": next(filter(None, named), None),
            "user": next(filter(None, users), None),
        }
        self._keys = credentials(headers, scope["query_string"])
        self._limit, self._room = config.max_body * MIB, room
        self._request: list[bytes] = []
        self._response: list[bytes] = []
        self._sizes = [0, 0]
        self.dropped: str | None = None
        """Why nothing is kept of this exchange, as a slug."""

    def asked(self, chunk: bytes) -> None:
        """Some more of the request's body."""
        self._take(0, self._request, chunk)

    def begins(self, status: int, headers: Headers) -> None:
        """The answer's head; only a success is worth keeping."""
        if status != 200:
            self.drop("upstream-error")
        self._meta["response_encoding"] = header(headers, "content-encoding")
        self._meta["type"] = header(headers, "content-type")

    def answered(self, chunk: bytes) -> None:
        """Some more of the answer's body."""
        self._take(1, self._response, chunk)

    def drop(self, reason: str) -> None:
        """Keep nothing of it."""
        self.dropped = self.dropped or reason
        self.release()

    def end(self) -> None:
        """There is no more, whoever hung up; without one word there is nothing to keep.

        Clients hang up at `[DONE]` too, so it is the recorder that looks whether all is there.
        """
        if not self._response:
            self.drop("no-answer")

    def frame(self) -> Frame:
        """The whole exchange."""
        meta = {**self._meta, "keys": self._keys}
        return Frame(meta, b"".join(self._request), b"".join(self._response))

    def release(self) -> None:
        """Give the memory back."""
        self._room.filled -= sum(self._sizes)
        self._sizes = [0, 0]
        self._request.clear()
        self._response.clear()

    def _take(self, side: int, chunks: list[bytes], chunk: bytes) -> None:
        if self.dropped is None:
            chunks.append(chunk)
            size = len(chunk)
            self._sizes[side] += size
            self._room.filled += size
            if self._sizes[side] > self._limit:
                self.drop("too-large")
            elif self._room.filled > self._room.limit:
                self.drop("no-room")
