"""Clients of a chat API: many streams at once, each checked token by token as it arrives."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from dataclasses import dataclass, field
from typing import Any

import httptools

_TOKEN = re.compile(r'"content":"([^/"]*)/(\d+)@(\d+) "')
SYSTEM = "You are a patient support agent. " * 20


@dataclass
class Measured:
    """In milliseconds: from asking to the first token, and each token's way from the provider."""

    first: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    streams: int = 0
    wrong: list[str] = field(default_factory=list)


class Stream(asyncio.Protocol):
    """One connection, on which streams are asked for one after another."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the way back."""
        self.transport = transport

    def ask(self, name: str, tokens: int, gap: float) -> asyncio.Future[None]:
        """Ask for a stream; the future ends when it is whole."""
        self.name, self.tokens, self.seen, self.rest = name, tokens, 0, ""
        self.parser = httptools.HttpResponseParser(self)
        said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": name}]
        body = json.dumps(
            {"model": "small-1", "stream": True, "messages": said, "tokens": tokens, "gap": gap}
        ).encode()
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer sk-benchmark-0123456789\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        self.done = asyncio.get_running_loop().create_future()
        self.asked = time.monotonic_ns()
        self.transport.write(head + body)
        return self.done

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Some tokens: the right ones, and in order?"""
        now = time.monotonic_ns()
        *events, self.rest = (self.rest + body.decode()).split("\n\n")
        for event in events:
            found = _TOKEN.search(event)
            if found is None:
                if event != "data: [DONE]":
                    self.measured.wrong.append(f"{self.name}: {event}")
                continue
            if (found[1], int(found[2])) != (self.name, self.seen):
                self.measured.wrong.append(f"{self.name}/{self.seen}: got {found[0]}")
            if self.seen == 0:
                self.measured.first.append((now - self.asked) / 1e6)
            self.measured.tokens.append((now - int(found[3])) / 1e6)
            self.seen += 1

    def on_message_complete(self) -> None:
        """Is it whole?"""
        self.measured.streams += 1
        if self.seen != self.tokens:
            self.measured.wrong.append(f"{self.name}: {self.seen} of {self.tokens} tokens")
        assert self.done is not None
        self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends before its stream has lost it."""
        if self.done is not None and not self.done.done():
            self.measured.wrong.append(f"{self.name}: cut after {self.seen} tokens ({exc})")
            self.done.set_result(None)


async def load(
    port: int, label: str, *, at_once: int, each: int, tokens: int, gap: float, spread: float
) -> Measured:
    """Run `at_once` connections of `each` streams; starts are spread over `spread` seconds."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    chance = random.Random(0)

    async def one(number: int) -> None:
        _, stream = await loop.create_connection(lambda: Stream(measured), "127.0.0.1", port)
        for turn in range(each):
            await asyncio.sleep(chance.random() * spread)
            await asyncio.wait_for(stream.ask(f"{label}-{number}-{turn}", tokens, gap), 120)
        stream.transport.close()

    await asyncio.gather(*(one(number) for number in range(at_once)))
    return measured
