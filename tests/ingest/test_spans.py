"""OpenInference and OpenTelemetry: attributes flattened, nested and as columns; OTLP batches."""

import json

import pytest
from tests.ingest.fixture_rows import (
    ASKED,
    FIVE,
    FOUND,
    HELLO,
    HI,
    RENT,
    SHIPPED,
    SYSTEM,
    TOOL,
    answer,
    read,
    rows,
    signals,
    tool_call,
)

from palate.ingest import openinference, opentelemetry, otlp, read_arrivals
from palate.ingest.attributes import collection, lookup
from palate.records import Example, Message, RecordError


def test_openinference():
    found, rejects = read("openinference")
    assert rejects == {4: "no-model-call", 5: "provider-error"}
    flat, *_ = found[1]
    assert flat.record.prompt == (
        SYSTEM,
        ASKED,
        Message("assistant", "", (tool_call('{"number": "A-17"}'),)),
        Message("tool", FOUND, tool_call_id="call_7f"),
    )
    said = answer(SHIPPED, source="gpt-small-2026", finish_reason="stop")
    assert flat.record.completions == (said,)
    assert flat.record.tools == (TOOL,)
    assert flat.ids == ("openai:chatcmpl-0penInf1", "otel:span/00f067aa0ba902b7")
    assert flat.user == "u-307"
    assert flat.record.tags == {
        "desk": "orders",
        "session_id": "s-13",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "tone": "formal",  # an annotation that says neither good nor bad
    }
    assert signals(found[1]) == [
        {"kind": "thumb", "choice": 0, "label": True, "by": "HUMAN"},
        {
            "kind": "score",
            "choice": 0,
            "score": 0.9,
            "name": "correctness",
            "comment": "matches the order",
        },
    ]
    (frame,), (nested,) = found[2], found[3]
    assert (frame.record.prompt, frame.record.completions[0].messages) == ((RENT,), (FIVE,))
    assert frame.ids == ("otel:span/00f067aa0ba902b8",)
    assert (nested.record.prompt, nested.record.completions[0].messages) == ((HI,), (HELLO,))
    assert found[6][0].record.about == ("otel:span/00f067aa0ba902b8",)
    assert signals(found[6])[0]["score"] == 0.0


def test_opentelemetry():
    found, rejects = read("opentelemetry")
    assert rejects == {2: "no-model-call", 4: "provider-error"}
    span, *_ = found[1]
    assert span.record.prompt == (
        SYSTEM,
        ASKED,
        Message("assistant", "", (tool_call({"number": "A-17"}),)),
        Message("tool", '{"status":"shipped"}', tool_call_id="call_7f"),
    )
    said = answer(SHIPPED, source="gpt-small-2026", finish_reason="stop")
    assert span.record.completions == (said,)
    assert span.record.tools[0]["function"]["name"] == "find_order"
    assert span.ids == ("openai:chatcmpl-0te1Gen1", "otel:span/10f067aa0ba902b7")
    assert (span.user, span.record.tags["gen_ai.conversation.id"]) == ("u-308", "conv-5")
    assert signals(found[1]) == [
        {
            "kind": "score",
            "choice": 0,
            "score": 0.8,
            "name": "relevance",
            "comment": "to the point",
        }
    ]
    (batched,) = found[2]  # of the two spans of this line one calls a tool
    assert (batched.record.prompt, batched.record.completions[0].messages) == ((RENT,), (FIVE,))
    assert batched.ids == ("otel:span/20f067aa0ba902b7",)
    assert batched.record.provenance[0].time == "2025-10-09T08:53:20+00:00"
    (older,) = found[3]
    assert older.record.prompt == (HI,)
    assert older.record.completions == (answer(HELLO, source="gpt-small", finish_reason="length"),)
    (verdict,) = found[5]
    assert (verdict.record.kind, verdict.record.label) == ("thumb", False)
    assert verdict.record.about == ("otel:span/20f067aa0ba902b7",)


OI = {
    "openinference.span.kind": "LLM",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "Hi",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Hello!",
}
GENAI = {
    "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}],
    "gen_ai.output.messages": [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}]}
    ],
}


@pytest.mark.parametrize(
    ("module", "row"),
    [
        (openinference, OI),
        (openinference, {"attributes": OI}),
        (openinference, {"attributes": json.dumps(OI)}),
        (openinference, {f"attributes.{name}": value for name, value in OI.items()}),
        (
            openinference,
            {
                "attributes": {
                    "llm": {"input_messages": [{"message": {"role": "user", "content": "Hi"}}]},
                    "llm.output_messages": [
                        {"message.role": "assistant", "message.content": "Hello!"}
                    ],
                }
            },
        ),
        (
            openinference,
            {
                "attributes": {
                    "openinference.span.kind": "LLM",
                    "input.value": "Hi",
                    "output.value": "Hello!",
                }
            },
        ),
        (opentelemetry, GENAI),
        (opentelemetry, {"attributes": {name: json.dumps(v) for name, v in GENAI.items()}}),
        (
            opentelemetry,
            {
                "attributes": {
                    "gen_ai": {
                        "input": {"messages": GENAI["gen_ai.input.messages"]},
                        "output": {"messages": GENAI["gen_ai.output.messages"]},
                    }
                }
            },
        ),
    ],
)
def test_every_form_of_the_attributes_gives_the_same(module, row):
    assert module.sniff(row)
    (example,) = module.parse(row)
    assert (example.prompt, example.completions[0].messages) == ((HI,), (HELLO,))


@pytest.mark.parametrize(
    ("module", "row", "reason"),
    [
        (openinference, {**OI, "openinference.span.kind": "TOOL"}, "no-model-call"),
        (openinference, {**OI, "status_code": "ERROR"}, "provider-error"),
        (openinference, {**OI, "llm.input_messages.0.message.role": "narrator"}, "bad-role"),
        (openinference, {"openinference.span.kind": "LLM"}, "missing-field"),
        (openinference, {"openinference.span.kind": "LLM", "input.value": "Hi"}, "missing-field"),
        (
            openinference,
            {
                **OI,
                "llm.output_messages.0.message.content": None,
                "llm.output_messages.0.message.contents.0.message_content.type": "image",
            },
            "unsupported-content",
        ),
        (openinference, {**OI, "llm.tools.0.tool.json_schema": "{oops"}, "wrong-type"),
        (
            openinference,
            {
                "span_id": "0" * 15 + "a",
                "annotator_kind": "HUMAN",
                "name": "tone",
                "result": {"label": "dry"},
            },
            "unread-feedback",
        ),
        (openinference, {"span_id": 1, "annotator_kind": "HUMAN", "name": "x"}, "missing-field"),
        (opentelemetry, {"gen_ai.request.model": "m"}, "no-model-call"),
        (opentelemetry, {**GENAI, "error.type": "timeout"}, "provider-error"),
        (opentelemetry, {"attributes": GENAI, "status": {"code": 2}}, "provider-error"),
        (opentelemetry, {**GENAI, "gen_ai.output.messages": []}, "missing-field"),
        (opentelemetry, {**GENAI, "gen_ai.input.messages": "Hi"}, "wrong-type"),
        (
            opentelemetry,
            {**GENAI, "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "blob"}]}]},
            "unsupported-content",
        ),
        (
            opentelemetry,
            {"gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.label": "dry"},
            "missing-field",
        ),
        (
            opentelemetry,
            {
                "span_id": "0123456789abcdef",
                "gen_ai.evaluation.name": "tone",
                "gen_ai.evaluation.score.label": "dry",
            },
            "unread-feedback",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(module, row, reason):
    with pytest.raises(RecordError) as caught:
        module.parse(row)
    assert caught.value.reason == reason


def test_feedback_about_a_trace_or_a_session_is_not_about_each_of_its_spans():
    row = {**OI, "trace.annotations.0.annotation.name": "quality"}
    row |= {"trace.annotations.0.annotation.score": 1, "session.annotations.0.annotation.score": 1}
    assert len(openinference.parse(row)) == 1


def test_a_collectors_file_of_openinference_spans(tmp_path):
    """The wire format is unpacked before anything is sniffed; each span has the line's number."""
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in OI.items()]
    spans = [
        {"traceId": "ab" * 16, "spanId": f"{n:016x}", "attributes": attributes} for n in (1, 2)
    ]
    batch = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    path = tmp_path / "traces.json"
    empty = json.dumps({"resourceSpans": []})
    path.write_text(f"{json.dumps(batch)}\n{empty}\n", encoding="utf-8")
    rejects = []
    found = list(read_arrivals(path, on_reject=rejects.append))
    assert [type(arrival.record) for arrival in found] == [Example, Example]
    assert len({arrival.ids for arrival in found}) == 2
    assert {arrival.record.provenance[0].line for arrival in found} == {1}
    assert [(reject.line, reject.reason) for reject in rejects] == [(2, "no-model-call")]


def test_typed_values_become_plain_ones():
    def keyed(**values):
        return [{"key": key, "value": value} for key, value in values.items()]

    attributes = keyed(
        text={"stringValue": "x"},
        whole={"intValue": "9007199254740993"},
        part={"doubleValue": 0.5},
        yes={"boolValue": True},
        listed={"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}},
        inner={"kvlistValue": {"values": keyed(b={"stringValue": "c"})}},
        empty={},
    )
    records = [{"timeUnixNano": "1", "eventName": "e", "attributes": attributes}]
    batch = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    assert otlp.is_batch(batch)
    (row,) = otlp.rows_of(batch)
    assert row == {
        "name": "e",
        "time": 1,
        "attributes": {
            "text": "x",
            "whole": 9007199254740993,
            "part": 0.5,
            "yes": True,
            "listed": ["a", 1],
            "inner": {"b": "c"},
            "empty": None,
        },
        "events": [],
    }


def test_lookup_and_collection():
    scope = {"a.b": {"c.d": 1}, "list.0.x": 1, "list.10.x": 3, "list.2.x": 2, "list.y.x": 4}
    assert lookup(scope, "a.b.c.d") == 1
    assert lookup(scope, "a.b.c") is None
    assert [item["x"] for item in collection(scope, "list")] == [1, 2, 3]
    assert collection({"list": {"1": {"x": 2}, "0": {"x": 1}}}, "list") == [{"x": 1}, {"x": 2}]
    assert collection(scope, "absent") == []


def test_no_fixture_row_is_a_batch_by_accident():
    assert [otlp.is_batch(row) for row in rows("opentelemetry")] == [False, True, *[False] * 3]
