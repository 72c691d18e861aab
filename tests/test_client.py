"""What all clients share: bounded replies, the words of an error, the key that is not repeated."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from palate.addresses import NotAllowed
from palate.client import (
    TooLarge,
    bearer,
    guarded,
    may_pass,
    read_body,
    read_events,
    refusal,
    retry_after,
)


def streamed(*parts: bytes) -> httpx.Response:
    return httpx.Response(200, content=iter(parts))


def test_a_reply_has_a_bound() -> None:
    assert read_body(streamed(b"ab", b"cd"), 4, 1.0, lambda: 0.0) == b"abcd"
    with pytest.raises(TooLarge, match="more than 2 MB"):
        read_body(streamed(b"x" * 2_000_000, b"x"), 2_000_000, 1.0, lambda: 0.0)


def test_a_reply_that_trickles_runs_out_of_time() -> None:
    seconds: Iterator[float] = iter([0.5, 1.0, 1.5])
    with pytest.raises(httpx.ReadTimeout):
        read_body(streamed(b"a", b"b", b"c"), 9, 1.0, lambda: next(seconds))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"error": {"message": "too\\n long"}}', "400: too long"),
        (b'{"error": "no"}', "400: no"),
        (b'{"message": "no", "code": 400}', "400: no"),
        (b'{"detail": "no"}', '400: {"detail": "no"}'),
        (b"<html>\n gone", "400: <html> gone"),
        (b"[1]", "400: [1]"),
        (b"\xff", "400: \ufffd"),
        (b"", "400"),
        (b"x" * 2000, "400: " + "x" * 200),
    ],
)
def test_an_error_in_words(raw: bytes, words: str) -> None:
    assert refusal(400, raw, None) == words


def test_the_key_is_shown_to_the_server_and_to_nobody_else() -> None:
    assert bearer("sk-1") == {"Authorization": "Bearer sk-1"}
    assert bearer(None) == {}
    assert refusal(401, b'{"error": "sk-1 is wrong"}', "sk-1") == "401: *** is wrong"


def test_what_may_pass() -> None:
    assert [
        code for code in (400, 401, 404, 408, 409, 422, 425, 429, 500, 529) if may_pass(code)
    ] == [
        408,
        409,
        425,
        429,
        500,
        529,
    ]


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("1.5") == 1.5
    assert retry_after("Thu, 01 Jan 2026 12:00:30 GMT", now) == 30.0
    assert retry_after("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0.0
    for none in (None, "soon", "nan", "inf", "Thu, 01 Jan 2026 12:00:30"):
        assert retry_after(none, now) is None


def events(most: int, *parts: bytes) -> list[str]:
    async def arriving() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def read() -> list[str]:
        response = httpx.Response(200, content=arriving())
        return [data async for data in read_events(response, most)]

    return asyncio.run(read())


def test_events_of_a_stream() -> None:
    """Lines in pieces, both line ends, two lines of data, comments, no last empty line."""
    raw = b": hello\ndata: a\xc3\xa9\r\n\r\nevent: x\ndata:b\ndata: c\n\n\ndata: [DONE]\n"
    whole = ["a\u00e9", "b\nc", "[DONE]"]
    assert events(1000, raw) == whole
    assert events(1000, *(bytes([byte]) for byte in raw)) == whole
    assert events(1000, b"data: \xff\n\n") == ["\ufffd"]
    with pytest.raises(TooLarge):
        events(len(raw) - 1, raw)


def refusing(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Name servers that answer so, one address a time; returns the names that they were asked."""
    asked: list[str] = []
    coming = iter(answers)

    def answer(host: str, port: int, *_: object, **__: object) -> list[object]:
        asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (next(coming), port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_a_public_name_for_a_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refusing(monkeypatch, "127.0.0.1")
    with guarded(httpx.Client(trust_env=False)) as client, pytest.raises(NotAllowed, match="for"):
        client.post("http://judge.example.org:9/v1")
    assert asked == ["judge.example.org"]


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that answers otherwise the second time is not asked a second time."""
    asked = refusing(monkeypatch, "93.184.216.34", "127.0.0.1")
    went: list[object] = []

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        went.append(address)
        raise OSError("no way")

    monkeypatch.setattr(socket, "create_connection", connect)
    with guarded(httpx.Client(trust_env=False)) as client, pytest.raises(httpx.ConnectError):
        client.post("http://judge.example.org:9/v1")
    assert asked == ["judge.example.org"]
    assert went == [("93.184.216.34", 9)]


def test_a_loop_asks_no_such_name_either(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        async def answer(host: str, port: int, **_: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer, raising=False)
        async with guarded(httpx.AsyncClient(trust_env=False)) as client:
            await client.post("http://judge.example.org:9/v1")

    with pytest.raises(NotAllowed, match="stands for"):
        asyncio.run(ask())


def test_who_is_on_this_machine_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 204 No\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with guarded(httpx.Client(trust_env=False)) as client:
            assert client.get(f"http://localhost:{port}/").status_code == 204
        thread.join()
