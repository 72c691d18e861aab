"""Answers of a chat server, piece by piece: text, ends, errors, and nothing that is no text."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from tests.judge.chat_server import ChatServer, Handler, chat_server, says, status
from tests.ui.arena.chat_stream import begin, event, sends, streams

from palate.records import Message
from palate.ui.arena import asking
from palate.ui.arena.asking import Endpoint, Manner, Pairs, Piece, ask, whole

PROMPT = (Message("system", "Be kind."), Message("user", "hello"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def asked(server: ChatServer, manner: Manner | None = None, **more: object) -> list[Piece]:
    """All pieces of one answer."""
    told: list[Piece] = []
    endpoint = Endpoint(server.url, "m", direct=True, **more)  # type: ignore[arg-type]
    asyncio.run(ask(endpoint, PROMPT, manner or Manner(seconds=30), told.append))
    return told


def text_of(told: list[Piece]) -> str:
    return "".join(piece.text for piece in told)


def test_pieces_come_as_they_are_sent_and_the_last_says_how_it_ended(server: ChatServer) -> None:
    server.plan = [streams("Good ", "day", finish="length")]
    told = asked(server, Manner(temperature=0.3, max_tokens=7, seconds=30), extra={"top_p": 0.9})
    assert told == [Piece("Good "), Piece("day"), Piece("", "length")]
    (sent,) = server.requests
    assert sent["messages"] == [message.to_dict() for message in PROMPT]
    assert (sent["model"], sent["stream"], sent["top_p"]) == ("m", True, 0.9)
    assert (sent["temperature"], sent["max_tokens"]) == (0.3, 7)


def test_markup_is_text_like_any_other(server: ChatServer) -> None:
    text = "<img src=x onerror=alert(1)></script>"
    server.plan = [streams(text)]
    assert text_of(asked(server)) == text


def test_a_character_in_two_pieces_is_whole(server: ChatServer) -> None:
    """Bytes of é that arrive apart; halves of 😀 in two events; a half that stays alone."""
    raw = b'data: {"choices": [{"delta": {"content": "\xc3\xa9"}}]}\n\n'
    at = raw.index(b"\xa9")
    halves = [
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\\ude00"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n',
    ]
    server.plan = [sends([raw[:at], raw[at:], *halves, event(None, "stop")])]
    told = asked(server)
    assert text_of(told) == "é😀a\ufffd"
    assert told[-1].finish == "stop"


def test_bytes_that_are_no_text_become_a_mark(server: ChatServer) -> None:
    broken = b'data: {"choices": [{"delta": {"content": "a\xffb"}}]}\n\n'
    server.plan = [sends([broken, event(None, "stop")])]
    assert text_of(asked(server)) == "a\ufffdb"


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (status(500, "it burns"), "500: it burns"),
        (status(401, "bad key sk-secret"), "401: bad key ***"),
        (streams("half", finish=None), "broke off before its end"),
        (streams("half", finish="content_filter"), "ended the answer (content_filter)"),
        (sends([b'data: {"error": {"message": "no sk-secret"}}\n\n']), "the server says: no ***"),
        (sends([b"data: {nonsense\n\n"]), "what is no answer: '{nonsense'"),
        (sends([b"data: [1]\n\n"]), "what is no answer: '[1]'"),
        (says("whole"), "broke off before its end"),
    ],
)
def test_what_goes_wrong_is_one_line_without_the_key(
    server: ChatServer, act: object, why: str
) -> None:
    server.plan = [act]  # type: ignore[list-item]
    last = asked(server, key="sk-secret")[-1]
    assert last.finish == "error"
    assert last.why is not None
    assert why in last.why
    assert "sk-secret" not in last.why
    assert "127.0.0.1" not in last.why, "the address would tell who stands there"
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"


def test_no_server_and_a_slow_one(server: ChatServer) -> None:
    gone = Endpoint("http://127.0.0.1:9/v1", "m", direct=True)
    told: list[Piece] = []
    asyncio.run(ask(gone, PROMPT, Manner(seconds=30), told.append))
    assert told[-1].why == "the server cannot be reached", "and not which one"

    def drips(handler: Handler) -> None:
        begin(handler)
        while not server.over.wait(0.05):
            handler.wfile.write(event("."))

    server.plan = [drips]
    last = asked(server, Manner(seconds=0.5))[-1]
    assert last == Piece("", "error", "the answer took more than 0.5 s")


def test_an_answer_has_a_greatest_length(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LONGEST", 10)
    server.plan = [streams("12345678", "901")]
    told = asked(server)
    assert text_of(told) == "12345678"
    assert "more than 10 characters" in str(told[-1].why)
    monkeypatch.setattr(asking, "LARGEST", 100)
    server.plan = [sends([b"x" * 101])]
    assert "a reply of more than" in str(asked(server)[-1].why)


def test_who_stops_listening_hangs_up(server: ChatServer) -> None:
    left = threading.Event()

    def endless(handler: Handler) -> None:
        begin(handler)
        try:
            while not server.over.wait(0.01):
                handler.wfile.write(event("x"))
        except OSError:
            left.set()

    server.plan = [endless]

    async def leave() -> None:
        come = asyncio.Event()
        endpoint = Endpoint(server.url, "m", direct=True)
        task = asyncio.create_task(ask(endpoint, PROMPT, Manner(), lambda _: come.set()))
        await come.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert left.wait(60), "the server still sends"


def test_the_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(Endpoint("http://h/v1", "m", "sk-secret"))


def test_halves_of_pairs() -> None:
    pairs = Pairs()
    assert pairs.add("a\ud83d") == "a"
    assert pairs.add("") == ""
    assert pairs.add("\ude00b") == "😀b"
    assert pairs.add("\ude00") == "\ufffd", "a second half without its first"
    assert pairs.add("\ud83d") == ""
    assert pairs.finish() == "\ufffd"
    assert pairs.finish() == ""
    assert whole("\ufeffa") == "\ufeffa"
    assert json.dumps(whole("a\ud800b"), ensure_ascii=False).encode()
