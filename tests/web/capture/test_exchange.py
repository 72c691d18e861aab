"""What is kept of a request's headers, and which of them are keys."""

from __future__ import annotations

import pytest

from palate.web.capture.exchange import Exchange, Room, credentials
from palate.web.capture.frames import Frame, Unpacker, pack
from palate.web.capture.settings import CaptureConfig

KEY = "sk-proj-0123456789"


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ([(b"authorization", b"Bearer " + KEY.encode())], b"", {f"Bearer {KEY}", KEY}),
        ([(b"Api-Key", KEY.encode())], b"", {KEY}),
        ([(b"x-api-key", KEY.encode())], b"", {KEY}),
        ([(b"x-goog-api-key", KEY.encode())], b"", {KEY}),
        ([(b"x-amz-security-token", KEY.encode())], b"", {KEY}),
        ([(b"cookie", b"session=abcdef012345")], b"", {"session=abcdef012345", "abcdef012345"}),
        ([(b"cookie", b"theme=assistant; lang=de")], b"", set()),  # `assistant` is a role
        ([], b"key=AIza%2B0123&alt=sse", {"AIza+0123"}),
        ([], b"api-version=2024-10-21", set()),
        ([(b"content-type", b"application/json"), (b"accept", b"*/*")], b"", set()),
        ([(b"authorization", b"Bearer x")], b"", {"Bearer x"}),  # `x` is in many a word
    ],
)
def test_keys_are_found(headers, query, found):
    assert set(credentials(headers, query)) == found


def test_the_longest_key_comes_first():
    found = credentials([(b"authorization", b"Bearer " + KEY.encode())], b"")
    assert found == (f"Bearer {KEY}", KEY)


def _exchange(headers=(), room=None, **settings):
    config = CaptureConfig(upstream="https://api.example.com/v1", max_body=1, **settings)
    scope = {"headers": list(headers), "query_string": b""}
    return Exchange(scope, config, room or Room(2**30))


def test_headers_name_the_conversation_and_the_user():
    headers = [(b"x-conversation-id", b"c2"), (b"x-session-id", b"c1"), (b"x-user-id", b"anna")]
    meta = _exchange(headers).frame().meta
    assert (meta["conversation"], meta["user"]) == ("c1", "anna")
    own = _exchange([(b"x-mine", b"m")], conversation_headers=["X-Mine"]).frame().meta
    assert (own["conversation"], own["user"]) == ("m", None)
    assert "headers" not in meta


def test_both_bodies_are_kept_whole():
    exchange = _exchange()
    exchange.asked(b"a")
    exchange.asked(b"b")
    exchange.begins(200, [(b"Content-Type", b"text/event-stream"), (b"content-encoding", b"br")])
    exchange.answered(b"c")
    exchange.answered(b"d")
    frame = exchange.frame()
    assert (frame.request, frame.response) == (b"ab", b"cd")
    assert (frame.meta["type"], frame.meta["response_encoding"]) == ("text/event-stream", "br")


@pytest.mark.parametrize("side", ["asked", "answered"])
def test_a_body_over_the_limit_is_dropped_and_its_memory_freed(side):
    exchange = _exchange()
    exchange.begins(200, [])
    getattr(exchange, side)(b"x" * 2**20)
    assert exchange.dropped is None
    getattr(exchange, side)(b"x")
    assert exchange.dropped == "too-large"
    getattr(exchange, side)(b"x")
    assert exchange.frame().request == exchange.frame().response == b""


def test_exchanges_under_way_share_a_limit_and_give_it_back():
    room = Room(100)
    first, second = _exchange(room=room), _exchange(room=room)
    first.asked(b"x" * 60)
    second.asked(b"x" * 60)
    assert (first.dropped, second.dropped) == (None, "no-room")
    third = _exchange(room=room)
    third.answered(b"x" * 40)
    assert third.dropped is None
    first.release()
    third.drop("no-answer")
    assert room.filled == 0


def test_only_a_success_is_kept():
    exchange = _exchange()
    exchange.begins(429, [])
    assert exchange.dropped == "upstream-error"


def test_without_one_word_of_an_answer_nothing_is_kept():
    exchange = _exchange()
    exchange.asked(b"{}")
    exchange.end()
    assert exchange.dropped == "no-answer"
    begun = _exchange()
    begun.begins(200, [])
    begun.answered(b"data: [DONE]\n\n")
    begun.end()
    assert begun.dropped is None
    refused = _exchange()
    refused.begins(429, [])
    refused.end()
    assert refused.dropped == "upstream-error"


def test_frames_survive_being_cut_anywhere():
    frames = [
        Frame({"kind": "exchange", "keys": ["a\nb"]}, b"\n\x00", b"{}\n"),
        Frame({"kind": "feedback"}),
        Frame({}, b"", b"x" * 100),
    ]
    whole = b"".join(map(pack, frames))
    for size in (1, 2, 7, 50, len(whole)):
        unpacker, found = Unpacker(), []
        for at in range(0, len(whole), size):
            found += unpacker.feed(whole[at : at + size])
        assert found == frames
