"""Whatever a server does, it ends in a retry, a counted failure, or one line: in no verdict."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.judge.chat_server import (
    Act,
    ChatServer,
    Handler,
    chat_server,
    completion,
    says,
    status,
)
from tests.judge.worlds import question

from palate.judge import server as server_room
from palate.judge.errors import JudgeStopped
from palate.judge.limits import Limits
from palate.judge.llm import LlmJudge
from palate.judge.opinion import Opinion
from palate.judge.wire import LARGEST
from palate.sections import JudgeConfig, ServerConfig

ASKED = question("a good answer", "a poor answer")
WHOLE = json.dumps(completion("A")).encode()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_room, "FIRST_WAIT", 0.001)


def judge_at(url: str, **more: Any) -> LlmJudge:
    place = {"url": url, "model": "m", "concurrency": 1, "retries": 2, **more}
    return LlmJudge(JudgeConfig.model_validate({"kind": "llm", "server": place}))


def hang(handler: Handler) -> None:
    """Says nothing for as long as the test lasts."""
    handler.server.over.wait()


def trickle(handler: Handler) -> None:
    """A byte at a time, never so late that one read would time out."""
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b" ")


def trickle_head(handler: Handler) -> None:
    """The same before the first header is whole."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"y")


def hang_up(handler: Handler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def huge(handler: Handler) -> None:
    """More than any verdict has."""
    handler.send(200, b'{"choices": "' + b"x" * (LARGEST + 1) + b'"}')


MENDED: dict[str, Act] = {
    "429": status(429),
    "429 with a time": status(429, retry_after="0"),
    "500": status(500),
    "502 in html": lambda h: h.send(502, b"<html>Bad gateway</html>", "text/html"),
    "503": status(503),
    "529 overloaded": status(529),
    "hangs": hang,
    "trickles": trickle,
    "trickles headers": trickle_head,
    "hangs up": hang_up,
    "half an answer": lambda h: h.cut(WHOLE[: len(WHOLE) // 2]),
    "whole JSON of half an answer": lambda h: h.cut(WHOLE),
    "garbage": lambda h: h.send(200, b"\x00\xff\xfe garbage"),
    "wrong content": lambda h: h.send(200, b"<html>Sign in to this network: A</html>", "text/html"),
    "empty": lambda h: h.send(200, b""),
    "another JSON": lambda h: h.send(200, b'{"verdict": "A"}'),
    "a list": lambda h: h.send(200, b'["A"]'),
    "no choices": lambda h: h.send(200, b'{"choices": []}'),
    "two choices": lambda h: h.send(
        200, json.dumps({"choices": completion("A")["choices"] * 2}).encode()
    ),
    "a null message": lambda h: h.send(200, b'{"choices": [{"message": null}]}'),
    "null": says(None),
    "deep": lambda h: h.send(200, b"[" * 200_000),
}
"""What is asked again."""

SLOW = {"hangs", "trickles", "trickles headers"}

KEPT: dict[str, Act] = {
    "400": status(400, "maximum context length is 8192 tokens"),
    "413": status(413),
    "422": status(422),
    "huge": huge,
    "refused": says(None, message={"refusal": "I cannot help with that."}),
    "filtered": says("", finish_reason="content_filter"),
    "cut off": says("A", finish_reason="length"),
    "prose": says("The better answer is A."),
    "both": says("A B"),
    "another letter": says("C"),
    "lower case": says("a"),
    "bracketed": says("[[A]]"),
    "JSON instead": says('{"verdict": "A"}'),
    "thinks and never ends": says("<think>A"),
    "nothing": says(""),
}
"""What asking again would not mend."""


@pytest.mark.parametrize("kind", MENDED)
def test_what_may_pass_is_asked_again(server: ChatServer, kind: str) -> None:
    server.plan = [MENDED[kind]]
    slow = kind in SLOW
    with judge_at(server.url, timeout=0.5 if slow else 60, retries=20) as judge:
        (opinion,) = judge.compare([ASKED])
        assert opinion == Opinion(1.0, ("A", "B"))
        assert judge.spent.failures == 0
        # On a busy machine an honest reply may take as long as a server that hangs.
        assert judge.spent.retries >= 1 if slow else judge.spent.retries == 1
    server.over.set()


@pytest.mark.parametrize("kind", MENDED)
def test_what_does_not_pass_is_a_counted_failure(server: ChatServer, kind: str) -> None:
    server.otherwise = MENDED[kind]
    with judge_at(server.url, timeout=0.1 if kind in SLOW else 60, retries=1) as judge:
        (opinion,) = judge.compare([ASKED])
        assert opinion.first_wins is None
        assert opinion.failure is not None
        assert opinion.failure.endswith("(asked 2 times)")
        assert (judge.spent.requests, judge.spent.retries, judge.spent.failures) == (4, 2, 2)
    server.over.set()


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("order", [0, 1])
def test_a_reply_that_is_no_verdict_is_not_asked_again(
    server: ChatServer, kind: str, order: int
) -> None:
    """Nor does the other order decide alone."""
    server.plan = [KEPT[kind]] if order == 0 else [says("A"), KEPT[kind]]
    with judge_at(server.url) as judge:
        (opinion,) = judge.compare([ASKED])
        assert opinion.first_wins is None
        assert opinion.failure
        assert (judge.spent.requests, judge.spent.retries, judge.spent.failures) == (2, 0, 1)


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (status(401, "bad key"), "says 401: bad key; the key is refused"),
        (status(402), "no credit left"),
        (status(403), "may not use this model"),
        (status(404), "check url and model"),
        (status(405), "no chat server"),
        (status(307, location="http://127.0.0.1:9/"), "redirects are not followed"),
    ],
)
def test_what_no_question_can_pass_stops_at_once(server: ChatServer, act: Act, line: str) -> None:
    server.otherwise = act
    with judge_at(server.url) as judge, pytest.raises(JudgeStopped) as caught:
        judge.compare([ASKED] * 10)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_is_down_stops_after_some_failures() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with judge_at(url, retries=1, max_failures=3) as judge:
            with pytest.raises(JudgeStopped) as caught:
                judge.compare([ASKED] * 10)
            assert "gave no usable reply to 3 questions in a row" in str(caught.value)
            assert "no connection" in str(caught.value)
            assert judge.spent.failures == 3
            assert judge.spent.requests == 6


def test_a_name_that_leads_nowhere_is_a_failure() -> None:
    with judge_at("http://no-such-host.invalid/v1", retries=0) as judge:
        (opinion,) = judge.compare([ASKED])
    assert opinion.first_wins is None
    assert opinion.failure is not None
    assert opinion.failure.startswith("no connection")


def test_a_working_server_forgives_failures_in_between(server: ChatServer) -> None:
    bad = says("Well.")
    server.plan = [bad, says("B"), bad, says("B"), bad, says("B")]
    with judge_at(server.url, max_failures=2) as judge:
        opinions = judge.compare([ASKED] * 4)
        assert [o.first_wins for o in opinions] == [None, None, None, 1.0]
        assert judge.spent.failures == 3


def test_a_wait_beyond_the_deadline_is_not_waited_for(server: ChatServer) -> None:
    server.otherwise = status(429, "slow down", retry_after="3600")
    with judge_at(server.url, deadline=600) as judge:
        with pytest.raises(JudgeStopped, match="asks to wait 3600 s, and the deadline is 600 s"):
            judge.compare([ASKED])
        assert judge.spent.requests == 1


def test_no_retry_begins_after_the_deadline(server: ChatServer) -> None:
    server.otherwise = status(503)
    with judge_at(server.url, deadline=1e-9, retries=50) as judge:
        (opinion,) = judge.compare([ASKED])
        assert opinion.failure == "503: no"
        assert (judge.spent.requests, judge.spent.retries) == (2, 0)


def test_every_reply_to_a_flaky_server_is_right_or_none(server: ChatServer) -> None:
    """Twenty questions, each third request an outage of another kind."""
    outages = [act for name, act in MENDED.items() if name not in SLOW]
    count, lock, honest = iter(range(10_000)), threading.Lock(), server.otherwise

    def flaky(handler: Handler) -> None:
        with lock:
            number = next(count)
        act: Callable[[Handler], None] = honest
        if number % 3 == 0:
            act = outages[number // 3 % len(outages)]
        act(handler)

    server.otherwise = flaky
    questions = [question("good", "poor", f"{i}?") for i in range(20)]
    with judge_at(server.url, retries=1, concurrency=4, max_failures=100) as judge:
        opinions = judge.compare(questions)
    assert {o.first_wins for o in opinions} <= {1.0, None}
    assert any(o.first_wins == 1.0 for o in opinions)


def test_requests_a_minute_are_spaced() -> None:
    now, waits = [100.0], []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    place = ServerConfig(url="http://h/v1", model="m", requests_per_minute=30)
    limits = Limits(place, wait, lambda: now[0])
    for _ in range(3):
        limits.admit(10, retry=False)
    limits.pause(10)
    limits.admit(10, retry=False)
    # Two seconds between two requests; then the ten that the server asked for.
    assert waits == [2.0, 2.0, 10.0]
