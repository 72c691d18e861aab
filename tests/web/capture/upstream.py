"""A fake provider on loopback: scripted answers over real sockets, and what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Respond = Callable[["Asked", Callable[..., Awaitable[None]]], Awaitable[None]]


@dataclass
class Asked:
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((v.decode() for n, v in self.headers if n == name.encode()), None)


@dataclass
class Provider:
    """`respond(asked, send)` writes the answer; `gone` counts answers that nobody waited for."""

    respond: Respond
    asked: list[Asked] = field(default_factory=list)
    gone: int = 0
    port: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = Asked(
            scope["method"],
            scope["raw_path"].decode(),
            scope["query_string"],
            scope["headers"],
            body,
        )
        self.asked.append(asked)
        answering = asyncio.ensure_future(self.respond(asked, send))
        leaving = asyncio.ensure_future(receive())
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.gone += 1
            answering.cancel()
        else:
            leaving.cancel()
            answering.result()

    def __enter__(self) -> Provider:
        config = uvicorn.Config(
            self,  # type: ignore[arg-type]
            port=0,
            lifespan="off",
            log_config=None,
            log_level="critical",
            ws="none",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            threading.Event().wait(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


async def start(send: Any, status: int = 200, kind: str = "application/json", **more: str) -> None:
    headers = [(b"content-type", kind.encode())]
    headers += [(name.replace("_", "-").encode(), text.encode()) for name, text in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def piece(send: Any, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def answer(name: str, text: str, **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI documents it."""
    said = {"role": "assistant", "content": text, "refusal": None, **message}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "small-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": said, "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def chunk(name: str, delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    """One event of a chat stream as OpenAI documents it."""
    value = {
        "id": name,
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "small-1",
        "system_fingerprint": "fp_1",
        "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream(name: str, words: list[str]) -> list[bytes]:
    """A whole chat stream, one piece a word."""
    first = chunk(name, {"role": "assistant", "content": "", "refusal": None})
    spoken = [chunk(name, {"content": word}) for word in words]
    return [first, *spoken, chunk(name, {}, "stop"), DONE]


async def chat(asked: Asked, send: Any) -> None:
    """Answers the last message, streamed if that is wanted; the id follows from the words."""
    request = json.loads(asked.body)
    said = request["messages"][-1]["content"]
    name = f"chatcmpl-about-{said.lower().replace(' ', '-')}"
    if request.get("stream"):
        await start(send, kind="text/event-stream; charset=utf-8")
        for part in stream(name, ["You ", "said ", said]):
            await piece(send, part)
        await piece(send, b"", last=True)
        return
    body = json.dumps(answer(name, f"You said {said}")).encode()
    await start(send, content_length=str(len(body)))
    await piece(send, body, last=True)
