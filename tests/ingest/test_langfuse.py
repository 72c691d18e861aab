"""Langfuse: observations and traces in both spellings, and scores of every type."""

import pytest
from tests.ingest.fixture_rows import (
    ASKED,
    FIVE,
    HELLO,
    HI,
    RENT,
    SYSTEM,
    TOOL,
    answer,
    read,
    signals,
    tool_call,
)

from palate.ingest.langfuse import ids_of, parse, sniff, user_of
from palate.records import Message, RecordError

FIRST = "langfuse:observation/obs-a1b2c3d4"


def test_the_fixture():
    found, rejects = read("langfuse")
    assert rejects == {4: "no-model-call", 5: "provider-error", 9: "unread-feedback"}
    (first,) = found[1]
    assert first.record.prompt == (SYSTEM, ASKED)
    assert first.record.tools == (TOOL,)
    call = Message("assistant", "", (tool_call('{"number": "A-17"}'),))
    assert first.record.completions == (answer(call, source="gpt-small-2026"),)
    assert (first.ids, first.user) == ((FIRST,), "u-304")
    assert first.record.tags == {
        "desk": "orders",
        "name": "answer",
        "session_id": "session-42",
        "trace_id": "trace-e5f60718",
        "tags": "prod",
    }
    (blob,) = found[2]  # the blob export: snake case, and JSON in text
    assert blob.record.prompt == (RENT,)
    assert blob.record.completions == (answer(FIVE, source="claude-small"),)
    assert blob.record.provenance[0].time == "2026-10-09 08:05:00.000000"
    (trace,) = found[3]
    assert (trace.record.prompt, trace.record.completions[0].messages) == ((HI,), (HELLO,))
    assert trace.ids == ("langfuse:trace/trace-07182930",)
    assert [signals(found[line]) for line in (6, 7, 8, 10)] == [
        [
            {
                "kind": "thumb",
                "choice": 0,
                "label": False,
                "comment": "did not look",
            }
        ],
        [{"kind": "score", "choice": 0, "score": 0.9, "name": "helpfulness", "by": "EVAL"}],
        [
            {
                "kind": "edit",
                "choice": 0,
                "by": "reviewer-7",
                "edit": [{"role": "assistant", "content": "Yes: 5 a day, or 20 a week."}],
            }
        ],
        [{"kind": "thumb", "choice": 0, "label": True}],
    ]
    assert [found[line][0].record.about for line in (6, 7, 8)] == [
        (FIRST,),
        ("langfuse:trace/trace-07182930",),
        ("langfuse:observation/obs-b2c3d4e5",),
    ]


def test_two_calls_of_one_trace_are_two_interactions():
    row = {"traceId": "trace-1", "type": "GENERATION", "input": "Hi", "output": "Hello!"}
    assert not set(ids_of({"id": "obs-000001", **row})) & set(ids_of({"id": "obs-000002", **row}))


def _score(**fields):
    row = {"id": "s1", "traceId": "trace-1", "observationId": None, "name": "quality"}
    return {**row, "value": 0, "stringValue": None, "dataType": "NUMERIC", **fields}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (_score(value=0.25), ("score", None, 0.25)),
        (_score(name="user-feedback", value=1), ("thumb", True, None)),
        (_score(name="userFeedback", value=-1), ("thumb", False, None)),
        (_score(name="user-feedback", value=4), ("score", None, 4.0)),
        (_score(dataType="BOOLEAN", value=1, stringValue="True"), ("score", None, 1.0)),
        (_score(dataType="CATEGORICAL", stringValue="👎"), ("thumb", False, None)),
        (
            _score(dataType="CATEGORICAL", name="feedback", stringValue="good"),
            ("thumb", True, None),
        ),
    ],
)
def test_scores(row, expected):
    assert sniff(row)
    (signal,) = parse(row)
    assert (signal.kind, signal.label, signal.score) == expected
    assert signal.about == ("langfuse:trace/trace-1",)
    assert (ids_of(row), user_of(row)) == ((), None)


def test_a_correction_may_be_messages_as_json():
    said = '[{"role": "assistant", "content": "Better."}]'
    (signal,) = parse(_score(dataType="CORRECTION", longStringValue=said))
    assert signal.edit == (Message("assistant", "Better."),)


def _observation(**fields):
    row = {"id": "obs-000001", "traceId": "trace-1", "type": "GENERATION"}
    return {**row, "input": "Hi", "output": "Hello!", **fields}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_observation(input=None), "missing-field"),
        (_observation(output=None), "missing-field"),
        (_observation(input={"args": [], "kwargs": {}}), "missing-field"),
        (_observation(output={"documents": []}), "missing-field"),
        (_observation(output=""), "empty-answer"),
        (_observation(type="TOOL"), "no-model-call"),
        (_observation(level="ERROR"), "provider-error"),
        (_observation(input=[{"role": "user", "content": "Hi"}] * 2, output=7), "missing-field"),
        (_score(traceId=None, sessionId="s"), "unread-feedback"),
        (_score(dataType="CATEGORICAL", stringValue="formal"), "unread-feedback"),
        (_score(dataType="TEXT", stringValue="fine"), "unread-feedback"),
        (_score(dataType="CORRECTION", stringValue=" "), "empty-answer"),
        (_score(name=None), "missing-field"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(row, reason):
    with pytest.raises(RecordError) as caught:
        parse(row)
    assert caught.value.reason == reason


def test_what_its_handler_for_langchain_writes():
    """Tools as messages after the others, and calls in LangChain's words under OpenAI's roles."""
    calling = {"name": "find_order", "args": {"number": "A-17"}, "id": "call_7f"}
    row = {
        "id": "obs-a1b2c3d4",
        "traceId": "t",
        "type": "GENERATION",
        "input": [
            {"role": "user", "content": ASKED.content},
            {"role": "assistant", "content": "", "tool_calls": [{**calling, "type": "tool_call"}]},
            {"role": "tool", "content": "shipped", "tool_call_id": "call_7f"},
            {"role": "tool", "content": TOOL},
        ],
        "output": {"role": "assistant", "content": "", "tool_calls": [calling]},
    }
    (example,) = parse(row)
    made = tool_call({"number": "A-17"})
    assert example.tools == (TOOL,)
    assert example.prompt == (
        ASKED,
        Message("assistant", "", (made,)),
        Message("tool", "shipped", tool_call_id="call_7f"),
    )
    assert example.completions == (answer(Message("assistant", "", (made,))),)
    function = TOOL["function"]
    bare = {"name": "find_order", "description": function["description"]}
    bare["input_schema"] = function["parameters"]  # Anthropic's
    (example,) = parse({**row, "input": [row["input"][0], {"role": "tool", "content": bare}]})
    assert example.tools == (TOOL,)
