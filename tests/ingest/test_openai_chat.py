"""OpenAI chat logs in all their wrappings."""

import pytest

from palate.ingest.openai_chat import ids_of, parse, sniff, time_of
from palate.records import Message, RecordError

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
REQUEST = {"model": "asked-for", "messages": ASKED}
RESPONSE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "small-1",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
    ],
    "usage": {"total_tokens": 9},
}


def _row(**fields):
    return {**REQUEST, **RESPONSE, **fields}


def _reason(row):
    with pytest.raises(RecordError) as caught:
        parse(row)
    return caught.value.reason


@pytest.mark.parametrize(
    "row",
    [
        _row(feedback="up"),
        _row(metadata={"feedback": "up"}),
        _row(metadata={"rating": "1"}),
        {"request": REQUEST, "response": RESPONSE, "feedback": {"rating": "up"}},
        {"request": {"body": REQUEST}, "response": {"body": RESPONSE}, "thumbs": True},
        {"body": REQUEST, "response": {"status_code": 200, "body": RESPONSE}, "rating": 1},
        {"messages": ASKED, "response": RESPONSE, "feedback": 1},
        {"request": REQUEST, "response": {**RESPONSE, "feedback": "up"}},
    ],
)
def test_every_wrapping_gives_the_same_example(row):
    assert sniff(row)
    (example,) = parse(row)
    assert example.prompt == (Message("system", "Be brief."), Message("user", "Hi"))
    (completion,) = example.completions
    assert completion.messages == (Message("assistant", "Hello"),)
    assert (completion.label, completion.source, completion.finish_reason) == (
        True,
        "small-1",
        "stop",
    )
    # 1 700 000 000 s after 1970: 14 November 2023, 22:13:20 UTC.
    assert time_of(row) == "2023-11-14T22:13:20+00:00"


def test_metadata_becomes_tags_but_the_thumb_does_not():
    metadata = {"template": "refund", "shift": 2, "vip": True, "nested": {"a": 1}, "rating": "-1"}
    (example,) = parse(_row(metadata=metadata))
    assert example.tags == {"template": "refund", "shift": "2", "vip": "true"}
    assert example.completions[0].label is False


def test_the_outer_metadata_wins():
    request = {**REQUEST, "metadata": {"shift": "night", "desk": "a"}}
    row = {"request": request, "response": RESPONSE, "metadata": {"shift": "day"}}
    (example,) = parse(row)
    assert example.tags == {"shift": "day", "desk": "a"}


def test_several_choices_with_their_own_thumbs():
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "A"}, "feedback": "up"},
        {"index": 1, "message": {"role": "assistant", "content": "B"}, "feedback": "down"},
    ]
    (example,) = parse(_row(choices=choices))
    assert [(c.text, c.label) for c in example.completions] == [("A", True), ("B", False)]


def test_no_feedback_is_no_label():
    (example,) = parse(_row())
    assert example.completions[0].label is None


def test_a_rated_conversation_is_about_its_last_reply():
    messages = [*ASKED, {"role": "assistant", "content": "Hello"}]
    row = {"messages": messages, "feedback": "down"}
    assert sniff(row)
    (example,) = parse(row)
    assert len(example.prompt) == 2
    assert (example.completions[0].text, example.completions[0].label) == ("Hello", False)


def test_tool_calls_pass_through():
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    tool = {"type": "function", "function": {"name": "find"}}
    row = _row(choices=[{"index": 0, "message": message}], tools=[tool])
    (example,) = parse(row)
    assert example.completions[0].messages == (Message("assistant", "", tool_calls=(call,)),)
    assert example.tools == (tool,)


def test_text_parts_are_joined_and_a_refusal_is_an_answer():
    parts = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]
    refusal = {"role": "assistant", "content": None, "refusal": "I can't."}
    row = _row(
        messages=[{"role": "user", "content": parts}], choices=[{"index": 0, "message": refusal}]
    )
    (example,) = parse(row)
    assert example.prompt == (Message("user", "Hi\nthere"),)
    assert example.completions[0].text == "I can't."


IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": None}, "missing-field"),
        ({"messages": "Hi"}, "wrong-type"),
        ({"messages": []}, "empty-prompt"),
        ({"messages": ["Hi"]}, "wrong-type"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty-prompt"),
        ({"messages": [{"role": "user"}]}, "missing-field"),
        ({"messages": [{"content": "Hi"}]}, "missing-field"),
        ({"messages": [{"role": "user", "content": 7}]}, "wrong-type"),
        ({"messages": [{"role": 7, "content": "Hi"}]}, "wrong-type"),
        ({"messages": [{"role": "narrator", "content": "Hi"}]}, "bad-role"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "unsupported-content"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x"}]}, "prompt-not-user"),
        ({"messages": ASKED[:1]}, "prompt-not-user"),
        ({"choices": None}, "missing-field"),
        ({"choices": []}, "empty-answer"),
        ({"choices": "Hello"}, "wrong-type"),
        ({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}, "missing-field"),
        ({"choices": [{"message": {"role": "user", "content": "x"}}]}, "answer-not-assistant"),
        ({"choices": [{"message": {"role": "assistant", "content": ""}}]}, "empty-answer"),
        ({"choices": [{"message": {"role": "assistant", "content": None}}]}, "empty-answer"),
        ({"choices": [{**RESPONSE["choices"][0], "finish_reason": 1}]}, "wrong-type"),
        ({"tools": "hammer"}, "wrong-type"),
        ({"feedback": "meh"}, "unknown-feedback"),
        ({"feedback": 0}, "unknown-feedback"),
        ({"feedback": "up", "metadata": {"rating": "-1"}}, "conflicting-feedback"),
        ({"error": {"message": "overloaded"}}, "provider-error"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(fields, reason):
    assert _reason(_row(**fields)) == reason


def test_one_thumb_for_two_choices_is_not_guessed():
    assert _reason(_row(choices=RESPONSE["choices"] * 2, feedback="up")) == "ambiguous-feedback"


@pytest.mark.parametrize("created", [10**400, float("nan"), -5, True, None, [], "", 1e30])
def test_a_strange_time_is_no_time(created):
    assert time_of(_row(created=created)) is None


RESPONSES = {
    "request": {"model": "asked-for", "instructions": "Be brief.", "input": "Hi"},
    "response": {
        "id": "resp_0a1b2c3d",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": "small-1",
        "error": None,
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
            },
        ],
    },
    "feedback": "down",
}


def test_calls_of_the_responses_api():
    assert sniff(RESPONSES)
    (example,) = parse(RESPONSES)
    assert [(m.role, m.content) for m in example.prompt] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    (answer,) = example.completions
    assert (answer.text, answer.label, answer.source) == ("Hello", False, "small-1")
    assert ids_of(RESPONSES) == ("openai:resp_0a1b2c3d",)
    assert time_of(RESPONSES) == "2023-11-14T22:13:20+00:00"
    asked, said = RESPONSES["request"], RESPONSES["response"]
    cut = {**said, "incomplete_details": {"reason": "max_output_tokens"}}
    (example,) = parse({"body": asked, "response": {"status_code": 200, "body": cut}})
    assert example.completions[0].finish_reason == "length"
    assert _reason({"request": {"model": "m"}, "response": said}) == "missing-field"
    assert _reason({"request": {**asked, "previous_response_id": "r"}, "response": said}) == (
        "missing-field"
    )
    failed = {**said, "error": {"code": "server_error"}, "output": []}
    assert _reason({"request": asked, "response": failed}) == "provider-error"
