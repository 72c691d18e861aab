"""When a row was written, whose it is, what names it; and its canonical form."""

import json
import math
import random
from datetime import UTC, datetime

import pytest

from palate.ingest import openai_chat, trl
from palate.ingest.canonical import canonical, depth
from palate.ingest.messages import decoded
from palate.ingest.origin import moment, named, provider_id, time_in, user_in
from palate.records import RecordError, canonical_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # 1 700 000 000 s after 1970: 14 November 2023, 22:13:20 UTC
        (1_700_000_000, "2023-11-14T22:13:20+00:00"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000+00:00"),
        (1_700_000_000_250, "2023-11-14T22:13:20.250000+00:00"),
        (1_700_000_000_250_000, "2023-11-14T22:13:20.250000+00:00"),
        (1_700_000_000_250_000_000, "2023-11-14T22:13:20.250000+00:00"),
        ("2026-01-02 03:04:05", "2026-01-02 03:04:05"),
        # cells of a CSV
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        ("1700000000.25", "2023-11-14T22:13:20.250000+00:00"),
        ("1700000000250", "2023-11-14T22:13:20.250000+00:00"),
        ("20260102", "20260102"),
        ("20260102030405", "20260102030405"),
        ("", None),
        (-1, None),
        (10**400, None),
        (1e30, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_moment(value, expected):
    assert moment(value) == expected


def test_the_first_field_that_tells():
    assert time_in({"created": None, "timestamp": 0}) == "1970-01-01T00:00:00+00:00"
    assert time_in({"updated": 0}) is None
    assert user_in({"user": " ", "userId": "u-1"}) == "u-1"
    assert user_in({"user_id": 17}) == "17"
    assert user_in({"user_id": 10**40, "user": ["x"], "email": True}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("chatcmpl-8xKq2", ("openai:chatcmpl-8xKq2",)),
        ("resp_0a1b2c3d", ("openai:resp_0a1b2c3d",)),
        ("msg_01Xyz", ("anthropic:msg_01Xyz",)),
        ("a1b2c", ()),  # five characters may name another thing elsewhere
        ("gen-1760000000-abc", ("openrouter:gen-1760000000-abc",)),
        ("0a1b2c3d4e5f", ("response:0a1b2c3d4e5f",)),
        ("chatcmpl-123", ()),  # Ollama's number out of 999 names many answers
        ("chatcmpl-", ()),
        ("1234567", ()),  # a row's number
        ("x" * 300, ()),
        (17, ()),
        (None, ()),
    ],
)
def test_provider_id(value, expected):
    assert provider_id(value) == expected


def test_sixteen_digits_are_an_id():
    """A span's id in hex may have no letter."""
    assert named("otel:span/", "0123456789012345") == ("otel:span/0123456789012345",)
    assert named("otel:span/", "012345678901234") == ()


def test_users_and_times_of_requests_and_files():
    request = {"messages": [{"role": "user", "content": "Hi"}], "user": "u-1"}
    response = {"id": "chatcmpl-aaaaaa", "choices": [], "created": 0}
    row = {"request": request, "response": response, "metadata": {"user_id": "u-2"}}
    assert openai_chat.user_of(row) == "u-2"  # the outermost word counts
    assert openai_chat.user_of({"request": request, "response": response}) == "u-1"
    assert openai_chat.ids_of(row) == ("openai:chatcmpl-aaaaaa",)
    assert openai_chat.ids_of({"messages": [], "id": "chatcmpl-aaaaaa"}) == ()
    pair = {"prompt": "a", "chosen": "b", "rejected": "c", "user_id": "u-3", "timestamp": 0}
    assert trl.FORMAT.user(pair) == "u-3"
    assert trl.FORMAT.time(pair) == "1970-01-01T00:00:00+00:00"
    (example,) = trl.parse(pair)
    assert example.tags == {"timestamp": "0"}  # a user is never a tag


EDGES = [0.0, -0.0, 1e-4, 9.9e-5, 1e15, 9999999999999998.0, 1e16, 1e22, 5e-324, 1.7e308]


def _text(rng):
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x110000)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(6)))


def _value(rng, depth=0):
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice([None, True, False, *EDGES])
    if kind == 1:
        return rng.randint(-(2**63), 2**64 - 1)
    if kind in (2, 3):
        return rng.uniform(-1, 1) * 10.0 ** rng.randint(-30, 30)
    if kind in (4, 5) or depth > 3:
        return _text(rng)
    if kind == 6:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {_text(rng): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def test_the_fast_way_writes_what_the_slow_one_does():
    rng = random.Random(0)
    for _ in range(5_000):
        value = {_text(rng): _value(rng) for _ in range(3)}
        assert canonical(value, plain=True) == (value, canonical_json(value).encode())
        assert canonical(value, plain=False) == (value, canonical_json(value).encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 2**70}, b'{"a":1180591620717411303424}'),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, b'{"at":"2026-01-02T00:00:00+00:00"}'),
        ({"a": b"text"}, b'{"a":"text"}'),
        ({"a": math.nan}, b'{"a":NaN}'),
    ],
)
def test_values_that_are_not_plain(value, expected):
    assert canonical(value, plain=False)[1] == expected


@pytest.mark.parametrize("plain", [True, False])
def test_what_cannot_be_read_again_is_refused(plain):
    deep: list[object] = []
    for _ in range(253):
        deep = [deep]
    assert depth({"a": deep}) == 255
    for row, reason in (({"a": "\ud83d"}, "bad-unicode"), ({"a": deep}, "broken-json")):
        with pytest.raises(RecordError) as caught:
            canonical(row, plain=plain)
        assert caught.value.reason == reason
    canonical({"a": deep[0]}, plain=plain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1", "[1"),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": 1e999}', '{"a": 1e999}'),
        ('{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('"text"', '"text"'),
        (7, 7),
    ],
)
def test_json_within_texts(text, expected):
    assert decoded(text) == expected


def test_json_within_texts_that_is_too_deep_stays_text():
    text = "[" * 300 + "]" * 300
    assert decoded(text) == text or depth(json.loads(text)) > 254
