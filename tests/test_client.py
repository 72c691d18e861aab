"""What all clients share: bounded replies, the words of an error, the key that is not repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from palate.client import TooLarge, bearer, may_pass, read_body, read_events, refusal, retry_after


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
