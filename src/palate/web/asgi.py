"""What our servers share of ASGI: its types, whole bodies within a limit, replies in JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


def header(headers: Headers, name: str) -> str:
    """The first header of that name (lower case), or the empty string."""
    wanted = name.encode()
    found = next((value for known, value in headers if known.lower() == wanted), b"")
    return found.decode("latin-1").strip()


async def reply(send: Send, status: int, value: Any, **headers: bytes) -> None:
    """Answer with JSON; an underscore in a header's name stands for a hyphen."""
    body = json.dumps(value, ensure_ascii=False).encode()
    length = str(len(body)).encode()
    fixed = [(b"content-type", b"application/json"), (b"content-length", length)]
    more = [(name.replace("_", "-").encode(), text) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fixed + more})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The body, read no further than just above the limit; None if the client hung up."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
    return b"".join(pieces)
