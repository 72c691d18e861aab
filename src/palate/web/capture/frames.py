"""What the proxy sends the recorder: a line of JSON, then the bytes of a request and an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

END = "end"
"""The kind of the last frame of a proxy that ends as it should; without it, the proxy died."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One exchange or one piece of feedback, as it passed."""

    meta: dict[str, Any]
    request: bytes = b""
    response: bytes = b""


def pack(frame: Frame) -> bytes:
    """The frame as bytes that `Unpacker` reads back to an equal one."""
    sizes = [len(frame.request), len(frame.response)]
    head = json.dumps([sizes, frame.meta], separators=(",", ":")).encode()
    return b"".join((head, b"\n", frame.request, frame.response))


class Unpacker:
    """Frames out of a stream that is cut anywhere."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._head: tuple[int, int, dict[str, Any]] | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take the next piece, and give the frames that are whole now."""
        self._bytes += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._head is None:
            end = self._bytes.find(b"\n")
            if end < 0:
                return None
            (asked, answered), meta = json.loads(self._bytes[:end])
            del self._bytes[: end + 1]
            self._head = asked, answered, meta
        asked, answered, meta = self._head
        if len(self._bytes) < asked + answered:
            return None
        request = bytes(self._bytes[:asked])
        response = bytes(self._bytes[asked : asked + answered])
        del self._bytes[: asked + answered]
        self._head = None
        return Frame(meta, request, response)
