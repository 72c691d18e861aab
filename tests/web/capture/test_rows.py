"""From bytes to rows, and from rows to the records that an import of the same rows gives."""

from __future__ import annotations

import gzip
import json
import zlib

import pyarrow as pa
import pytest
from tests.web.capture.upstream import DONE, answer, chunk, stream

from palate.ingest import read_arrivals
from palate.records import Example, Message, RecordError, Signal
from palate.web.capture.bodies import decoded
from palate.web.capture.frames import Frame
from palate.web.capture.rows import arrivals_of, is_sampled, place, row_of

LIMIT = 2**20
TIME = 1_700_000_000.5
REQUEST = {
    "model": "small-1",
    "user": "u7",
    "metadata": {"desk": "a"},
    "messages": [{"role": "user", "content": "Hi"}],
}


def _frame(response, kind="application/json", request=REQUEST, **meta):
    body = response if isinstance(response, bytes) else json.dumps(response).encode()
    about = {
        "kind": "exchange",
        "time": TIME,
        "path": "/v1/chat/completions",
        "request_encoding": "",
        "response_encoding": "",
        "type": kind,
        "conversation": None,
        "user": None,
        "keys": (),
        **meta,
    }
    return Frame(about, json.dumps(request).encode(), body)


def _streamed(*parts):
    return _frame(b"".join(parts), "text/event-stream; charset=utf-8")


def _example(frame):
    (arrival,) = arrivals_of(row_of(frame, LIMIT), "capture:x", 3)
    assert isinstance(arrival.record, Example)
    return arrival.record


def test_streamed_or_not_an_answer_is_the_same_example():
    whole = _example(_frame(answer("chatcmpl-first1", "Hello you")))
    pieces = _example(_streamed(*stream("chatcmpl-first1", ["Hello", " you"])))
    for example in (whole, pieces):
        assert example.prompt == (Message("user", "Hi"),)
        (said,) = example.completions
        assert (said.text, said.source, said.finish_reason) == ("Hello you", "small-1", "stop")
        assert example.tags == {"desk": "a"}
        (where,) = example.provenance
        assert (where.source, where.line) == ("capture:x", 3)
        assert where.time == "2023-11-14T22:13:20+00:00"  # `created`, 1 700 000 000 s
    assert whole.id == pieces.id


def test_an_import_of_the_same_rows_gives_the_same_records(tmp_path):
    frames = [
        _frame(answer("chatcmpl-first1", "A"), conversation="c1", user="anna"),
        _streamed(*stream("chatcmpl-second", ["B"])),
    ]
    rows = [row_of(frame, LIMIT) for frame in frames]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = list(read_arrivals(log))
    captured = [
        arrival for line, row in enumerate(rows, 1) for arrival in arrivals_of(row, str(log), line)
    ]
    assert [(a.record, a.ids) for a in captured] == [(a.record, a.ids) for a in imported]
    assert [a.ids for a in captured] == [("openai:chatcmpl-first1",), ("openai:chatcmpl-second",)]
    assert captured[0].record.tags["conversation_id"] == "c1"


def test_headers_name_the_conversation_and_the_user():
    row = row_of(_frame(answer("x", "A"), conversation="c1", user="anna"), LIMIT)
    assert (row["metadata"], row["user"]) == ({"conversation_id": "c1"}, "anna")
    assert row["time"] == "2023-11-14T22:13:20.500000+00:00"
    request = {key: value for key, value in REQUEST.items() if key != "user"}
    named = _frame(answer("x", "A"), request=request, user="anna")
    (arrival,) = arrivals_of(row_of(named, LIMIT), "s", 1)
    assert arrival.user == "anna"
    without = row_of(_frame(answer("x", "A"), request=request), LIMIT)
    assert not {"metadata", "user"} & set(without)


def test_several_choices_and_tool_calls_survive():
    call = {"id": "c", "index": 0, "function": {"name": "find", "arguments": "{}"}}
    example = _example(
        _streamed(
            chunk("x", {"content": "A"}, "stop", 0),
            chunk("x", {"tool_calls": [call]}, "tool_calls", 1),
            DONE,
        )
    )
    first, second = example.completions
    assert first.messages == (Message("assistant", "A"),)
    (called,) = second.messages[0].tool_calls
    assert called == {
        "id": "c",
        "type": "function",
        "function": {"name": "find", "arguments": "{}"},
    }


def test_feedback_becomes_signals_with_an_id_of_their_own():
    given = {"id": "chatcmpl-first1", "rating": "up", "edit": "B", "user": "anna"}
    row = {"feedback": given, "feedback_id": "fb-1", "time": "2024-05-01T00:00:00+00:00"}
    frame = Frame({"kind": "feedback", "row": row})
    arrivals = arrivals_of(row_of(frame, LIMIT), "capture:x", 9)
    assert [a.record.kind for a in arrivals] == ["thumb", "edit"]
    assert {(a.ids, a.user) for a in arrivals} == {(("palate:fb-1",), "anna")}
    (where,) = arrivals[0].record.provenance
    assert (where.line, where.time) == (9, "2024-05-01T00:00:00+00:00")


def _zstd(body):
    return pa.compress(body, codec="zstd", asbytes=True)


def _brotli(body):
    return pa.compress(body, codec="brotli", asbytes=True)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", _brotli),
        ("zstd", _zstd),
        ("identity", bytes),
        ("", bytes),
        ("gzip, br", lambda body: _brotli(gzip.compress(body))),
    ],
)
def test_compressed_bodies_are_read(encoding, pack):
    body = json.dumps(answer("chatcmpl-first1", "Grüß dich")).encode()
    assert decoded(pack(body), encoding, LIMIT) == body.decode()


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"x", "rot13", "unknown-encoding"),
        (b"no gzip", "gzip", "broken-encoding"),
        (b"no zlib", "deflate", "broken-encoding"),
        (b"\xff", "", "bad-utf8"),
        (gzip.compress(b"x" * (LIMIT + 1)), "gzip", "too-large"),
        (zlib.compress(b"x" * (LIMIT + 1)), "deflate", "too-large"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(body, encoding, reason):
    with pytest.raises(RecordError) as caught:
        decoded(body, encoding, LIMIT)
    assert caught.value.reason == reason


IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (_frame(b"<html>"), "broken-json"),
        (_frame(b"[]"), "not-an-object"),
        (_frame({"error": {"message": "overloaded"}}), "provider-error"),
        (_frame({"id": "x", "choices": []}), "empty-answer"),
        (_frame({"surprise": 1}), "missing-field"),
        (_streamed(chunk("x", {"content": "Hel"})), "stream-cut"),
        (_streamed(b"data: {\n\n"), "broken-stream"),
        (_streamed(), "stream-cut"),
        (_frame(answer("x", "\ud800")), "bad-unicode"),
        (
            _frame(
                answer("x", "A"),
                request={"messages": [{"role": "user", "content": IMAGE}]},
            ),
            "unsupported-content",
        ),
    ],
)
def test_what_is_of_no_use_is_refused_under_its_reason(frame, reason):
    with pytest.raises(RecordError) as caught:
        arrivals_of(row_of(frame, LIMIT), "s", 1)
    assert caught.value.reason == reason


def _said(conversation, text="A"):
    return arrivals_of(row_of(_frame(answer("x", text), conversation=conversation), LIMIT), "s", 1)


def test_a_conversation_is_kept_whole_or_not_at_all():
    kept = 0
    for number in range(400):
        turns = [is_sampled(_said(f"c{number}", text), 0.3) for text in ("A", "B", "C")]
        assert len(set(turns)) == 1
        kept += turns[0]
    # Binomial, 400 draws at 0.3: mean 120, standard deviation 9.2; five of those either way.
    assert 74 <= kept <= 166
    assert all(is_sampled(_said(f"c{number}"), 1.0) for number in range(20))
    assert not any(is_sampled(_said(f"c{number}"), 0.0) for number in range(20))


def test_turns_without_a_name_share_how_the_conversation_begins():
    request = {"model": "small-1", "messages": [{"role": "user", "content": "Hi"}]}
    later = [*request["messages"], {"role": "assistant", "content": "A"}]
    later.append({"role": "user", "content": "And?"})
    first = _example(_frame(answer("x", "A"), request=request))
    second = _example(_frame(answer("y", "B"), request={**request, "messages": later}))
    assert place(first) == place(second)


def test_feedback_is_never_sampled_out():
    row = {"feedback": {"id": "x", "rating": "up"}, "feedback_id": "f", "time": "2024-05-01"}
    arrivals = arrivals_of(row, "s", 1)
    assert isinstance(arrivals[0].record, Signal)
    assert is_sampled(arrivals, 0.0)
