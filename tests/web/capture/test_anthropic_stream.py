"""Events of a message stream against the message that Anthropic gives without streaming."""

from __future__ import annotations

import pytest

from palate.records import RecordError
from palate.web.capture.anthropic_stream import assemble

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "small-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}


def _begin(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index, kind, **rest):
    delta = {"type": kind, **rest}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def test_text_thinking_and_a_tool_make_the_message():
    events = [
        START,
        {"type": "ping"},
        _begin(0, type="thinking", thinking="", signature=""),
        _delta(0, "thinking_delta", thinking="Let me"),
        _delta(0, "thinking_delta", thinking=" see"),
        _delta(0, "signature_delta", signature="c2ln"),
        {"type": "content_block_stop", "index": 0},
        _begin(1, type="text", text=""),
        _delta(1, "text_delta", text="I look "),
        _delta(1, "text_delta", text="it up."),
        _begin(2, type="tool_use", id="toolu_1", name="find", input={}),
        _delta(2, "input_json_delta", partial_json=""),
        _delta(2, "input_json_delta", partial_json='{"q": [1'),
        _delta(2, "input_json_delta", partial_json="]}"),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 15},
        },
        STOP,
    ]
    assert assemble(events) == {
        **START["message"],
        "content": [
            {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
            {"type": "text", "text": "I look it up."},
            {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": [1]}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 25, "output_tokens": 15},
    }


def test_a_tool_without_arguments_has_an_empty_input():
    events = [START, _begin(0, type="tool_use", id="t", name="now", input={}), STOP]
    assert assemble(events)["content"][0]["input"] == {}
    silent = [*events[:2], _delta(0, "input_json_delta", partial_json=""), STOP]
    assert assemble(silent)["content"][0]["input"] == {}


def test_an_error_in_the_stream_is_the_answer():
    error = {"type": "overloaded_error"}
    assert assemble([START, {"type": "error", "error": error}])["error"] == error


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], "stream-cut"),
        ([START, _begin(0, type="text", text="Hel")], "stream-cut"),
        ([START, _delta(0, "text_delta", text="x"), STOP], "broken-stream"),
        ([START, _delta(None, "text_delta", text="x"), STOP], "broken-stream"),
        ([{"type": "message_start"}], "broken-stream"),
        ([START, {"type": "content_block_start", "index": 0}], "broken-stream"),
        ([START, {"type": "content_block_delta", "index": 0}], "broken-stream"),
        (
            [
                START,
                _begin(0, type="tool_use", input={}),
                _delta(0, "input_json_delta", partial_json="{"),
                STOP,
            ],
            "broken-stream",
        ),
    ],
)
def test_what_is_no_whole_message_is_refused(events, reason):
    with pytest.raises(RecordError) as caught:
        assemble(events)
    assert caught.value.reason == reason
