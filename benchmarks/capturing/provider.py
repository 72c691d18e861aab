"""A provider that streams what it is asked for, at a set pace, in a process of its own.

    python -m benchmarks.capturing.provider

prints its port. A request names its stream, the number of tokens and the seconds between two:
`{"messages": [{"content": "NAME"}], "tokens": 100, "gap": 0.05}`. Each token holds the name, its
number, and when it was sent, in nanoseconds of the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httptools
import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
EVENT = (
    'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":1700000000,'
    '"model":"small-1","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":'
    '"%s/%d@%d "},"logprobs":null,"finish_reason":%s}]}\n\n'
)


class Connection(asyncio.Protocol):
    """One client; requests come one after another."""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Begin to answer."""
        asked, self.body = json.loads(self.body), b""
        self.transport.write(HEAD)
        self._send(asked["messages"][-1]["content"], 0, asked["tokens"], asked["gap"])

    def _send(self, name: str, number: int, tokens: int, gap: float) -> None:
        if self.transport.is_closing():
            return
        last = number == tokens - 1
        reason = '"stop"' if last else "null"
        event = (EVENT % (name, name, number, time.monotonic_ns(), reason)).encode()
        if last:
            event += b"data: [DONE]\n\n"
        self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        if last:
            self.transport.write(b"0\r\n\r\n")
        else:
            asyncio.get_running_loop().call_later(gap, self._send, name, number + 1, tokens, gap)


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
