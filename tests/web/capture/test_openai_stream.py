"""Chunks of a chat stream against the response that OpenAI gives without streaming."""

from __future__ import annotations

import json

import pytest

from palate.records import RecordError
from palate.web.capture.openai_stream import assemble
from palate.web.capture.sse import events, objects


def _chunk(index=0, finish=None, **delta):
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "small-1",
        "choices": [choice],
    }


def test_words_are_joined_and_the_head_is_kept():
    chunks = [
        {**_chunk(role="assistant", content=""), "system_fingerprint": "fp_1"},
        _chunk(content="Hel"),
        _chunk(content="lo"),
        _chunk(finish="stop"),
        {**_chunk(), "choices": [], "usage": {"total_tokens": 9}},
    ]
    assert assemble(chunks, ended=True) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "small-1",
        "system_fingerprint": "fp_1",
        "usage": {"total_tokens": 9},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
    }


def test_choices_come_mixed_and_are_told_apart():
    chunks = [
        _chunk(1, role="assistant", content="B"),
        _chunk(0, role="assistant", content="A"),
        _chunk(1, content="b", finish="length"),
        _chunk(0, content="a"),
        _chunk(0, finish="stop"),
    ]
    choices = assemble(chunks, ended=False)["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["Aa", "Bb"]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]


def test_tool_calls_are_put_together_by_their_index():
    def call(index, **rest):
        return {"index": index, **rest}

    def piece(index, arguments):
        return call(index, function={"arguments": arguments})

    first = call(0, id="c0", type="function", function={"name": "find", "arguments": ""})
    second = call(1, id="c1", type="function", function={"name": "book", "arguments": ""})
    chunks = [
        _chunk(role="assistant", content=None, tool_calls=[first]),
        _chunk(tool_calls=[piece(0, '{"q":')]),
        _chunk(tool_calls=[second, piece(0, "1}")]),
        _chunk(tool_calls=[piece(1, "{}")]),
        _chunk(finish="tool_calls"),
    ]
    (choice,) = assemble(chunks, ended=True)["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c0",
                "type": "function",
                "function": {"name": "find", "arguments": '{"q":1}'},
            },
            {"id": "c1", "type": "function", "function": {"name": "book", "arguments": "{}"}},
        ],
    }


def test_two_calls_of_one_index_and_calls_without_index_are_calls_of_their_own():
    def whole(name, **rest):
        function = {"name": name, "arguments": "{}"}
        return {"id": f"id-{name}", "function": function, **rest}

    chunks = [
        _chunk(tool_calls=[whole("a", index=0)]),
        _chunk(tool_calls=[whole("b", index=0)], finish="tool_calls"),
    ]
    for calls in (chunks, [_chunk(tool_calls=[whole("a")]), _chunk(tool_calls=[whole("b")])]):
        message = assemble(calls, ended=True)["choices"][0]["message"]
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["a", "b"]
        assert all(call["type"] == "function" for call in message["tool_calls"])


def test_an_id_that_comes_with_each_piece_is_one_call():
    pieces = [
        {"index": 0, "id": "c", "function": {"name": "find", "arguments": text}}
        for text in ("{", "}")
    ]
    chunks = [_chunk(tool_calls=[piece]) for piece in pieces]
    (call,) = assemble(chunks, ended=True)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "find", "arguments": "{}"}


def test_a_refusal_and_the_reasoning_are_kept_apart():
    chunks = [_chunk(reasoning_content="Hm"), _chunk(refusal="I "), _chunk(refusal="can't.")]
    message = assemble(chunks, ended=True)["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": None,
        "refusal": "I can't.",
        "reasoning_content": "Hm",
    }


def test_the_old_function_call_is_put_together():
    chunks = [
        _chunk(function_call={"name": "find", "arguments": "{"}),
        _chunk(function_call={"arguments": "}"}),
    ]
    message = assemble(chunks, ended=True)["choices"][0]["message"]
    assert message["function_call"] == {"name": "find", "arguments": "{}"}


def test_azure_begins_with_a_chunk_that_says_nothing():
    chunks = [
        {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []},
        _chunk(content="Hi", finish="stop"),
    ]
    assert assemble(chunks, ended=True)["id"] == "chatcmpl-1"


def test_an_error_in_the_stream_is_the_answer():
    error = {"message": "overloaded"}
    assert assemble([_chunk(content="Hel"), {"error": error}], ended=False)["error"] == error


@pytest.mark.parametrize(
    ("chunks", "ended", "reason"),
    [
        ([], True, "stream-cut"),
        ([_chunk(content="Hel")], False, "stream-cut"),
        ([_chunk(0, finish="stop"), _chunk(1, content="B")], False, "stream-cut"),
        ([_chunk(tool_calls="x")], True, "broken-stream"),
        ([_chunk(tool_calls=["x"])], True, "broken-stream"),
        ([{"choices": {}}], True, "broken-stream"),
        ([{"choices": [{"index": "0"}]}], True, "broken-stream"),
        ([{"choices": [{"delta": "x"}]}], True, "broken-stream"),
    ],
)
def test_what_is_no_whole_answer_is_refused(chunks, ended, reason):
    with pytest.raises(RecordError) as caught:
        assemble(chunks, ended=ended)
    assert caught.value.reason == reason


def test_events_in_each_spelling_of_a_line_break():
    for end in ("\n", "\r\n", "\r"):
        lines = [": a comment", "event: x", "data: one", "data:two", "", "id: 7", "", "data: cut"]
        assert list(events("\ufeff" + end.join(lines) + end)) == ["one\ntwo"]


def test_unusual_line_separators_are_text():
    """U+2028 and its like are line breaks to `str.splitlines`, and not to the standard."""
    said = json.dumps({"a": "x\u2028y\x85z"}, ensure_ascii=False)
    assert list(objects(f"data: {said}\n\n")) == [{"a": "x\u2028y\x85z"}]


def test_nothing_is_read_after_done():
    assert list(objects("data: {}\n\ndata: [DONE]\n\ndata: no JSON\n\n")) == [{}]


@pytest.mark.parametrize("data", ["no JSON", "[]", "1"])
def test_an_event_that_is_no_object_is_refused(data):
    with pytest.raises(RecordError) as caught:
        list(objects(f"data: {data}\n\n"))
    assert caught.value.reason == "broken-stream"
