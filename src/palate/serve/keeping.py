"""What was said goes to the store through the recorder of `palate capture`, and so does feedback.

The recorder is a process of its own that writes to a spill folder first: a store that is slow or
locked delays no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from palate.web.asgi import Message, Receive, Send
from palate.web.capture.exchange import Exchange, Room
from palate.web.capture.link import Link
from palate.web.capture.own import Own
from palate.web.capture.settings import MIB, CaptureConfig

UPSTREAM = "http://palate.serve"
"""Stands where a captured exchange has its provider: the store lists `capture:palate.serve`."""
_JSON = [(b"content-type", b"application/json")]


class Keeper:
    """Made inside the event loop; `start` before the first request, `close` after the last."""

    def __init__(self, db: str, spill: str | None, drain: int, say: Callable[[str], None]) -> None:
        place = spill if spill is not None else _spill_of(db)
        self._config = CaptureConfig(upstream=UPSTREAM, db=db, spill=place, drain=drain)
        self._link = Link(self._config, say)
        self._own = Own(self._link, lambda: 0)
        self._room = Room(self._config.queue * MIB)

    async def start(self) -> None:
        """Start the recorder; `ConfigError` if it cannot work."""
        await self._link.start()

    async def close(self) -> None:
        """Let the recorder store what is left, within its limit."""
        await self._link.close()

    def keep(self, scope: Message, request: bytes, response: dict[str, Any]) -> None:
        """Hand an exchange over; nobody waits for what becomes of it."""
        exchange = Exchange(scope, self._config, self._room)
        exchange.asked(request)
        exchange.begins(200, _JSON)
        exchange.answered(orjson.dumps(response))
        exchange.end()
        if exchange.dropped is None:
            self._link.put(exchange.frame())
        else:
            self._link.skip(exchange.dropped)
        exchange.release()

    async def feedback(self, scope: Message, receive: Receive, send: Send) -> bool:
        """`POST /v1/feedback`, as `palate capture` takes it; True if it was taken."""
        return await self._own.feedback(scope, receive, send)

    def counts(self) -> dict[str, Any]:
        """What became of what was handed over."""
        return self._link.counts()


def _spill_of(db: str) -> str:
    """A folder beside a store that is a file; below the working folder for a database's URL."""
    return "palate-serve-spill" if "://" in db else str(Path(f"{db}.spill"))
