from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.judge.chat_server import ChatServer, Handler, chat_server, completion, says, status

from palate.config import ConfigError
from palate.records import Message
from palate.speak.remote import RemoteSpeaker, open_remote
from palate.speak.speaker import Manner, Reply

MANNER = Manner(max_new_tokens=7, temperature=0.5, seed=11)
ASKED = [[Message("system", "S"), Message("user", "one")], [Message("user", "two")]]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def open_at(server: ChatServer, **more: object) -> RemoteSpeaker:
    return open_remote(server.url, {"model": "m", "retries": 0, "concurrency": 1, **more})


def test_conversations_are_sent_as_they_are(server: ChatServer) -> None:
    def echo(handler: Handler) -> None:
        said = f" {handler.asked['messages'][-1]['content']}! "
        handler.send(200, json.dumps(completion(said)).encode())

    server.otherwise = echo
    speaker = open_at(server)
    assert speaker.ask(ASKED, MANNER) == [Reply("one!"), Reply("two!")]
    assert speaker.ask([], MANNER) == []
    first, second = server.requests
    assert first["messages"] == [m.to_dict() for m in ASKED[0]]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("m", 7, 0.5)
    assert [first["seed"], second["seed"]] == [11, 12]
    assert speaker.name == f"m at {server.url}"


def test_a_cut_answer_is_no_outage_and_an_outage_is_no_answer(server: ChatServer) -> None:
    server.plan = [
        says("so far", finish_reason="length"),
        says("", finish_reason="content_filter"),
        status(500),
        says("fine"),
    ]
    found = open_at(server).ask([ASKED[1]] * 4, MANNER)
    assert found == [
        Reply("so far", finished=False),
        Reply("", finished=False, failure="content-filter"),
        Reply("", finished=False, failure="server"),
        Reply("fine"),
    ]


def test_a_server_that_is_away_is_one_line(server: ChatServer) -> None:
    server.otherwise = status(500)
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z"):
        open_at(server, max_failures=2).ask([ASKED[1]] * 4, MANNER)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"server\.model=NAME"):
        open_remote("http://127.0.0.1:1/v1", {})
    with pytest.raises(ConfigError, match="did you mean 'timeout'"):
        open_remote("http://127.0.0.1:1/v1", {"model": "m", "timout": 3})
    with pytest.raises(ConfigError, match=r"'server\.timeout': Input should be greater than 0"):
        open_remote("http://127.0.0.1:1/v1", {"model": "m", "timeout": 0})
