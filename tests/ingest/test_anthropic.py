"""Anthropic messages: blocks become turns, tool calls and results survive."""

import pytest
from tests.ingest.fixture_rows import (
    ASKED,
    FOUND,
    SHIPPED,
    SYSTEM,
    answer,
    read,
    rows,
    tool_call,
)

from palate.ingest.anthropic import parse, sniff, time_of, user_of
from palate.records import Message, RecordError


def test_the_fixture():
    found, rejects = read("anthropic")
    assert rejects == {4: "provider-error"}
    (first,), (second,), (third,) = found.values()
    assert first.record.prompt == (
        SYSTEM,
        ASKED,
        # what the model thought to itself is no part of the turn
        Message("assistant", "Let me look.", (tool_call({"number": "A-17"}, "toolu_01"),)),
        Message("tool", FOUND, tool_call_id="toolu_01"),
    )
    # two blocks of one answer follow each other without a break
    said = answer(SHIPPED, source="claude-small-2026", label=False, finish_reason="stop")
    assert first.record.completions == (said,)
    assert first.record.tools == (
        {
            "type": "function",
            "function": {
                "name": "find_order",
                "description": "Look an order up",
                "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
            },
        },
    )
    assert (first.ids, first.user) == (("anthropic:msg_01XyzAbc",), "u-302")
    assert first.record.provenance[0].time == "2026-10-09T08:00:00Z"
    assert first.record.tags == {}  # the user's id is no tag
    call = Message("assistant", "", (tool_call({"number": "A-17"}, "toolu_02"),))
    assert second.record.completions[0].messages == (call,)
    assert second.record.completions[0].finish_reason == "tool_calls"
    # the request began the answer: both are one, and what was cut off is said in OpenAI's word
    assert third.record.prompt == (Message("user", "Name one colour."),)
    assert third.record.completions[0].messages == (
        Message("assistant", "The colour is blue, and also"),
    )
    assert third.record.completions[0].finish_reason == "length"


RESPONSE = {
    "id": "msg_01abcdef",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
}
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    "row",
    [
        {"request": REQUEST, "response": RESPONSE},
        {"body": REQUEST, "response": {"status_code": 200, "body": RESPONSE}},
        {**REQUEST, "response": RESPONSE},
        {**REQUEST, **RESPONSE},
        {"params": REQUEST, "response": RESPONSE},
    ],
)
def test_every_wrapping_gives_the_same_example(row):
    assert sniff(row)
    (example,) = parse(row)
    assert example.prompt == (Message("user", "Hi"),)
    assert example.completions == (
        answer(Message("assistant", "Hello"), source="m", finish_reason="stop"),
    )


def _content(*blocks):
    return {"request": REQUEST, "response": {**RESPONSE, "content": list(blocks)}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_content(), "empty-answer"),
        (_content({"type": "thinking", "thinking": "hm"}), "empty-answer"),
        (_content({"type": "image", "source": {}}), "unsupported-content"),
        (_content({"type": "tool_use", "id": "t", "input": {}}), "bad-tool-call"),
        (_content("text"), "unsupported-content"),
        ({"request": {"model": "m"}, "response": RESPONSE}, "missing-field"),
        ({"request": REQUEST, "response": {"id": "msg_1"}}, "missing-field"),
        (
            {"request": REQUEST, "response": {"status_code": 529, "body": RESPONSE}},
            "provider-error",
        ),
        ({"request": {**REQUEST, "system": 7}, "response": RESPONSE}, "wrong-type"),
        ({"request": {**REQUEST, "tools": "t"}, "response": RESPONSE}, "wrong-type"),
        ({"request": REQUEST, "response": RESPONSE, "feedback": "meh"}, "unknown-feedback"),
        ({"request": {**REQUEST, "messages": []}, "response": RESPONSE}, "empty-prompt"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(row, reason):
    with pytest.raises(RecordError) as caught:
        parse(row)
    assert caught.value.reason == reason


def test_what_the_row_does_not_tell():
    row = {"request": REQUEST, "response": RESPONSE}
    assert (time_of(row), user_of(row)) == (None, None)
    assert not sniff(rows("openai-chat")[0])
