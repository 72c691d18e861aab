"""The proxy as an ASGI application: everything passes, and some of it is kept.

Written against ASGI itself: a framework's request and response objects would cost more time per
token than all the rest.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

from palate.web.asgi import Message, Receive, Send, reply
from palate.web.capture.exchange import Exchange, Room
from palate.web.capture.link import Link
from palate.web.capture.own import Own
from palate.web.capture.settings import MIB, CaptureConfig
from palate.web.capture.upstream import Body, Upstream, UpstreamError

_WHOLE = 2**19  # bytes; a longer request is passed on while it comes in


class Gone(Exception):
    """The client hung up before its request was whole."""


class Proxy:
    """Passes requests to the upstream; answers itself what only it can answer."""

    def __init__(
        self, config: CaptureConfig, upstream: Upstream, link: Link, say: Callable[[str], None]
    ) -> None:
        self._config, self._upstream, self._link, self._say = config, upstream, link, say
        self._paths = tuple(config.paths)
        self._room = Room(config.queue * MIB)
        self.open = 0
        """Requests on their way just now."""
        self._own = Own(link, lambda: self.open)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError("the proxy speaks HTTP only")
        own = self._own.routes.get(scope["path"])
        if own is not None:
            await own(scope, receive, send)
            return
        self.open += 1
        try:
            await self._pass(scope, receive, send)
        except Exception as error:
            # Only where it happened: its message may hold what passed.
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._say(f"{type(error).__name__} in {where.filename}, line {where.lineno}")
            raise
        finally:
            self.open -= 1

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        kept = scope["method"] == "POST" and scope["path"].endswith(self._paths)
        exchange = Exchange(scope, self._config, self._room) if kept else None
        client = _Client(receive, exchange)
        try:
            await self._answer(scope, client, send, exchange)
        except (Gone, asyncio.CancelledError):
            if not client.gone:  # the server itself is about to end
                raise
        finally:
            client.leave()
            if exchange is not None:
                self._keep(exchange)

    async def _answer(
        self, scope: Message, client: _Client, send: Send, exchange: Exchange | None
    ) -> None:
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        try:
            body = await client.body()
            answer = await self._upstream.ask(scope["method"], target, scope["headers"], body)
        except UpstreamError as error:
            if exchange is not None:
                exchange.drop("upstream-error")
            why = f"{self._upstream.origin}: {error}"
            await reply(send, error.status, _error(why, error.code))
            return
        if exchange is not None:
            exchange.begins(answer.status, answer.headers)
        head = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        try:
            await send(head)
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if exchange is not None:
                    exchange.answered(chunk)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except UpstreamError:
            # The head has been sent. Returning without an end makes the server cut the connection,
            # which is what the upstream did.
            return
        finally:
            answer.close()

    def _keep(self, exchange: Exchange) -> None:
        exchange.end()
        if exchange.dropped is None:
            self._link.put(exchange.frame())
        else:
            self._link.skip(exchange.dropped)
        exchange.release()


class _Client:
    """The other end of a request: its body, and whether it is still there."""

    def __init__(self, receive: Receive, exchange: Exchange | None) -> None:
        self._receive, self._exchange = receive, exchange
        self._watch: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self.gone = False

    async def body(self) -> Body:
        """The request's body: whole if it is short, else piece by piece."""
        first, more = await self._next()
        pieces, size = [first], len(first)
        while more and size <= _WHOLE:
            piece, more = await self._next()
            pieces.append(piece)
            size += len(piece)
        if more:
            return self._rest(pieces)
        self._attend()
        return b"".join(pieces)

    async def _rest(self, pieces: list[bytes]) -> AsyncIterator[bytes]:
        yield b"".join(pieces)
        more = True
        while more:
            piece, more = await self._next()
            if not more:
                self._attend()
            yield piece

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise Gone
        piece = message.get("body", b"")
        if self._exchange is not None:
            self._exchange.asked(piece)
        return piece, message.get("more_body", False)

    def _attend(self) -> None:
        """From now on, cancel the request when the client hangs up."""
        self._watch = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()

    def leave(self) -> None:
        """Stop attending."""
        if self._watch is not None:
            self._watch.cancel()


def _error(why: str, code: str) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    message = f"palate capture got no answer from {why}"
    return {"error": {"message": message, "type": "upstream_error", "param": None, "code": code}}
