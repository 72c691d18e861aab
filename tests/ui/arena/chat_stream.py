"""What a chat server streams, as a test tells it to."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tests.judge.chat_server import Act, Handler


def event(text: str | None = None, finish: str | None = None) -> bytes:
    """An event in the documented form."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def begin(handler: Handler) -> None:
    """The head of a stream; it ends with the connection."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    handler.close_connection = True


def streams(*texts: str, finish: str | None = "stop", pause: float = 0.0) -> Act:
    """The texts one by one, and the end, unless `finish` is None: then the stream breaks off."""

    def act(handler: Handler) -> None:
        begin(handler)
        for text in texts:
            handler.wfile.write(event(text))
            handler.wfile.flush()
            time.sleep(pause)
        if finish is not None:
            handler.wfile.write(event(None, finish) + b"data: [DONE]\n\n")

    return act


def sends(parts: Sequence[bytes], pause: float = 0.01) -> Act:
    """These bytes, each part by itself."""

    def act(handler: Handler) -> None:
        begin(handler)
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(pause)

    return act
