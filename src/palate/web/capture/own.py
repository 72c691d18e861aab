"""What the proxy answers itself: `POST /v1/feedback` and `GET /palate/health`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Any
from uuid import uuid4

from palate.web.asgi import Message, Receive, Send, header, read_body, reply
from palate.web.capture.exchange import credentials
from palate.web.capture.feedback import BadFeedback, read
from palate.web.capture.frames import Frame
from palate.web.capture.link import Link
from palate.web.capture.rows import iso

FEEDBACK, HEALTH = "/v1/feedback", "/palate/health"
LARGEST = 2**20  # bytes of a feedback's body
_DURABLE = 10.0  # seconds to wait until feedback is on a disk


class Own:
    """The routes of the proxy's own, by path; `streams` counts the requests on their way."""

    def __init__(self, link: Link, streams: Callable[[], int]) -> None:
        self._link, self._streams = link, streams
        self.routes = {FEEDBACK: self.feedback, HEALTH: self._health}

    async def _health(self, scope: Message, _receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            await reply(send, 405, _refusal("health is read with GET"), allow=b"GET")
            return
        await reply(send, 200, {**self._link.counts(), "streams": self._streams()})

    async def feedback(self, scope: Message, receive: Receive, send: Send) -> bool:
        """Check what somebody says, and answer once it is on a disk; True if it was taken."""
        if scope["method"] != "POST":
            await reply(send, 405, _refusal("feedback is sent with POST"), allow=b"POST")
            return False
        body = await read_body(receive, LARGEST)
        if body is None:
            return False
        if len(body) > LARGEST:
            await reply(send, 413, _refusal(f"the body has more than {LARGEST} bytes"))
            return False
        try:
            given = read(body)
        except BadFeedback as error:
            await reply(send, 400, _refusal(str(error)))
            return False
        name = _name(header(scope["headers"], "idempotency-key"))
        row = {"feedback": given, "feedback_id": name, "time": iso(time())}
        keys = credentials(scope["headers"], scope["query_string"])
        frame = Frame({"kind": "feedback", "row": row, "keys": keys})
        durable = await self._durable(frame)
        if durable:
            await reply(send, 202, {"feedback_id": name, "status": "accepted"})
        else:
            await reply(send, 503, _refusal("not stored: try again in a moment", "server_error"))
        return durable

    async def _durable(self, frame: Frame) -> bool:
        durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._link.put(frame, durable):
            return False
        try:
            return await asyncio.wait_for(durable, _DURABLE)
        except TimeoutError:
            return False


def _refusal(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _name(idempotency_key: str) -> str:
    """The feedback's id: the same for each attempt that has the same `Idempotency-Key`."""
    if idempotency_key:
        return f"fb-{sha256(idempotency_key.encode()).hexdigest()[:32]}"
    return f"fb-{uuid4().hex}"
