"""Helicone and LiteLLM: what gateways keep of a request and its response."""

import pytest
from tests.ingest.fixture_rows import (
    ASKED,
    FIVE,
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

from palate.ingest import helicone, litellm
from palate.records import Message, RecordError


def test_helicone():
    found, rejects = read("helicone")
    assert rejects == {3: "provider-error"}
    first, *_ = found[1]
    said = answer(SHIPPED, source="gpt-small-2026", label=True, finish_reason="stop")
    assert (first.record.prompt, first.record.completions) == ((SYSTEM, ASKED), (said,))
    assert first.record.tools == (TOOL,)
    assert first.record.tags == {"desk": "orders", "session_id": "s-12"}
    assert first.ids == (
        "openai:chatcmpl-He11coNe",
        "helicone:request/8d3f0c52-1111-4e6f-8a1b-9c0d1e2f3a4b",
    )
    assert first.user == "u-305"
    assert signals(found[1]) == [
        {"kind": "score", "choice": 0, "score": 4.0, "name": "politeness"},
        {"kind": "score", "choice": 0, "score": 1.0, "name": "grounded"},
    ]
    (second,) = found[2]  # Anthropic's bodies, as JSON text
    assert second.record.prompt == (SYSTEM, RENT)
    assert second.record.completions[0].messages == (FIVE,)
    assert (second.ids[0], second.user) == ("anthropic:msg_01He1ic0", "u-306")


def test_litellm():
    found, rejects = read("litellm")
    assert rejects == {3: "provider-error", 4: "no-model-call"}
    (first,), (second,) = found.values()
    call = Message("assistant", "", (tool_call('{"number": "A-17"}'),))
    said = answer(call, source="gpt-small-2026", label=True, finish_reason="tool_calls")
    assert (first.record.prompt, first.record.completions) == ((SYSTEM, ASKED), (said,))
    assert first.record.tools == (TOOL,)
    # nothing of keys, teams and addresses
    assert first.record.tags == {"desk": "orders", "session_id": "s-14", "trace_id": "tr-1"}
    assert (first.ids, first.user) == (("openai:chatcmpl-L1teL1m1",), "u-309")
    # 1 760 000 000 s after 1970: 9 October 2025, 08:53:20 UTC.
    assert first.record.provenance[0].time == "2025-10-09T08:53:20.500000+00:00"
    assert (second.record.prompt, second.record.completions[0].messages) == ((RENT,), (FIVE,))
    assert second.record.completions[0].finish_reason == "length"
    assert (second.ids, second.user) == (("anthropic:msg_01L1teAn",), None)


HELICONE = rows("helicone")[0]
LITELLM = rows("litellm")[0]


@pytest.mark.parametrize(
    ("module", "row", "reason"),
    [
        (helicone, {**HELICONE, "response_status": 429}, "provider-error"),
        (helicone, {**HELICONE, "response_body": {"streamed_data": "data: {}"}}, "missing-field"),
        (helicone, {**HELICONE, "response_body": {"error": "no"}}, "provider-error"),
        (helicone, {**HELICONE, "request_body": None}, "missing-field"),
        (helicone, {**HELICONE, "request_body": {"input": ["a", "b"]}}, "wrong-type"),
        (helicone, {**HELICONE, "feedback_rating": "meh"}, "unknown-feedback"),
        (helicone, {**HELICONE, "scores": {"tone": "formal"}}, "unread-feedback"),
        (
            helicone,
            {
                **HELICONE,
                "response_body": {
                    "choices": [{"message": {"role": "assistant", "content": t}} for t in "ab"]
                },
            },
            "ambiguous-feedback",
        ),
        (litellm, {**LITELLM, "status": "failure"}, "provider-error"),
        (litellm, {**LITELLM, "call_type": "atranscription"}, "no-model-call"),
        (litellm, {**LITELLM, "response": None}, "missing-field"),
        (litellm, {**LITELLM, "messages": []}, "empty-prompt"),
        (litellm, {**LITELLM, "model_parameters": {"tools": [1]}}, "wrong-type"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(module, row, reason):
    assert module.sniff(row)
    with pytest.raises(RecordError) as caught:
        module.parse(row)
    assert caught.value.reason == reason


def test_words_that_litellm_was_told_not_to_log_are_no_answer():
    said = {"role": "assistant", "content": "redacted-by-litellm"}
    row = {**LITELLM, "messages": [{"role": "user", "content": "redacted-by-litellm"}]}
    row["response"] = {"choices": [{"message": said}]}
    with pytest.raises(RecordError) as caught:
        litellm.parse(row)
    assert caught.value.reason == "empty-answer"
