"""Bodies within a limit, headers, replies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from palate.web.asgi import header, read_body, reply
from palate.web.listening import is_loopback


def receive(*messages: Any) -> Any:
    waiting = list(messages)

    async def take() -> Any:
        return waiting.pop(0)

    return take


def body(data: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_is_read_to_its_end() -> None:
    found = asyncio.run(read_body(receive(body(b"ab", True), body(b"c", False)), 10))
    assert found == b"abc"


def test_a_body_is_read_no_further_than_just_above_the_limit() -> None:
    endless = receive(body(b"abc", True), body(b"def", True))  # a third is never asked for
    assert asyncio.run(read_body(endless, 5)) == b"abcdef"


def test_who_hangs_up_has_no_body() -> None:
    gone = receive(body(b"ab", True), {"type": "http.disconnect"})
    assert asyncio.run(read_body(gone, 10)) is None


def test_headers_are_found_by_their_lower_case_name() -> None:
    headers = [(b"Host", b" a "), (b"host", b"b")]
    assert header(headers, "host") == "a"
    assert header(headers, "origin") == ""


def test_a_reply_is_json_with_its_length() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(reply(send, 429, {"said": "zwölf"}, retry_after=b"5"))
    start, rest = sent
    assert start["status"] == 429
    headers = dict(start["headers"])
    assert json.loads(rest["body"]) == {"said": "zwölf"}
    assert headers[b"content-length"] == str(len(rest["body"])).encode()
    assert headers[b"retry-after"] == b"5"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
