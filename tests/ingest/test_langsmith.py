"""LangSmith: runs in several dialects, and feedback about them."""

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
    signals,
    tool_call,
)

from palate.ingest.langsmith import ids_of, parse, sniff
from palate.records import Message, RecordError

RUN = "langsmith:run/5f1d0e6a-0001-4d3a-9a51-7c2f3b8e0001"
ROOT = "langsmith:run/5f1d0e6a-0002-4d3a-9a51-7c2f3b8e0002"


def test_the_fixture():
    found, rejects = read("langsmith")
    assert rejects == {4: "no-model-call", 5: "provider-error", 8: "unread-feedback"}
    run, *_ = found[1]
    assert run.record.prompt == (
        SYSTEM,
        ASKED,
        Message("assistant", "", (tool_call({"number": "A-17"}),)),
        Message("tool", FOUND, tool_call_id="call_7f"),
    )
    said = answer(SHIPPED, source="gpt-small", finish_reason="stop")
    assert run.record.completions == (said,)
    assert run.record.tools == (TOOL,)
    assert (run.ids, run.user) == (("openai:chatcmpl-Ls55rTgB", RUN), "u-303")
    assert run.record.tags["thread_id"] == "t-88"
    assert "session_id" not in run.record.tags  # LangSmith's session is the project
    # a thumb under a name that says so, the mean of two scores under one that does not
    assert signals(found[1]) == [
        {"kind": "thumb", "choice": 0, "label": True},
        {"kind": "score", "choice": 0, "score": 0.75, "name": "helpfulness"},
    ]
    assert all(a.record.about == run.ids for a in found[1][1:])
    (root,) = found[2]
    assert (root.record.prompt, root.record.completions[0].messages) == ((RENT,), (FIVE,))
    assert root.ids == (ROOT,)
    (wrapped,) = found[3]
    assert (wrapped.record.prompt, wrapped.record.completions[0].messages) == ((HI,), (HELLO,))
    assert wrapped.ids[0] == "openai:chatcmpl-Wr99aaBB"
    assert signals(found[6]) == [
        {"kind": "thumb", "choice": 0, "label": False, "by": "app", "comment": "too late"}
    ]
    assert (found[6][0].record.about, found[6][0].ids) == ((RUN,), ())
    edited = {"role": "assistant", "content": "Yes: 5 a day, or 20 a week."}
    assert signals(found[7]) == [
        {"kind": "edit", "choice": 0, "edit": [edited], "by": "model"},
        {"kind": "score", "choice": 0, "score": 0.5, "name": "helpfulness", "by": "model"},
    ]
    assert found[7][0].record.provenance[0].time == "2026-10-09T09:01:00"


def _run(inputs, outputs, **more):
    return {"id": "r" * 12, "run_type": "llm", "inputs": inputs, "outputs": outputs, **more}


MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (MESSAGES, {"choices": [{"message": {"role": "assistant", "content": "Hello!"}}]}),
        (MESSAGES, {"role": "assistant", "content": "Hello!"}),
        (MESSAGES, {"message": {"role": "assistant", "content": "Hello!"}}),
        (MESSAGES, {"messages": [{"type": "ai", "content": "Hello!"}]}),
        ({"messages": [{"type": "human", "data": {"content": "Hi"}}]}, {"output": "Hello!"}),
        ({"prompts": ["Hi"]}, {"generations": [[{"text": "Hello!"}]]}),
        ({"input": "Hi"}, {"output": {"content": "Hello!"}}),
        (
            MESSAGES,
            {
                "type": "message",
                "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "Hello!"}],
            },
        ),
        (  # OpenAI's responses API
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
            {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Hello!"}],
                    },
                ]
            },
        ),
    ],
)
def test_the_dialects_of_inputs_and_outputs(inputs, outputs):
    row = _run(inputs, outputs)
    assert sniff(row)
    (example,) = parse(row)
    assert (example.prompt, example.completions[0].messages) == ((HI,), (HELLO,))


def test_calls_as_items_of_a_response_belong_to_the_turn_before_them():
    said = {"type": "message", "role": "assistant", "content": "Let me look."}
    items = [
        {"type": "function_call", "call_id": "c1", "name": "find_order", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "find_order", "arguments": "{}"},
    ]
    (example,) = parse(_run(MESSAGES, {"output": [said, *items]}))
    calls = (tool_call("{}", "c1"), tool_call("{}", "c2"))
    assert example.completions[0].messages == (Message("assistant", "Let me look.", calls),)


def test_the_root_of_a_graph_gives_only_what_came_after_the_question():
    messages = [*MESSAGES["messages"], {"type": "ai", "content": "Hello!"}]
    (example,) = parse(_run(MESSAGES, {"messages": messages}, run_type="chain"))
    assert example.completions[0].messages == (HELLO,)


def _feedback(**fields):
    return {"run_id": "r" * 12, "key": "k", "score": None, "value": None, **fields}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (_feedback(key="user_feedback", score=True), ("thumb", True, None)),
        (_feedback(key="Thumbs", score=-1), ("thumb", False, None)),
        (_feedback(key="quality", value="thumbs-up"), ("thumb", True, None)),
        (_feedback(key="user_score", score=1), ("score", None, 1.0)),
        (_feedback(key="correct", score=False), ("score", None, 0.0)),
        (_feedback(key="correct", score=1, correction={"score": 0}), ("score", None, 0.0)),
        (_feedback(correction="Better."), ("edit", None, None)),
        (_feedback(correction={"role": "assistant", "content": "Better."}), ("edit", None, None)),
    ],
)
def test_feedback(row, expected):
    (signal,) = parse(row)
    assert (signal.kind, signal.label, signal.score) == expected
    assert signal.about == ("langsmith:run/rrrrrrrrrrrr",)
    if signal.kind == "edit":
        assert signal.edit == (Message("assistant", "Better."),)
    assert ids_of(row) == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_run(MESSAGES, None), "missing-field"),
        (_run(None, {"output": "x"}), "missing-field"),
        (_run({"topic": "x"}, {"output": "x"}), "missing-field"),
        (_run(MESSAGES, {"documents": []}), "missing-field"),
        (_run(MESSAGES, {"generations": [[]]}), "empty-answer"),
        (_run(MESSAGES, {"output": "x"}, run_type="retriever"), "no-model-call"),
        (_run(MESSAGES, {"output": "x"}, run_type="chain", parent_run_id="p"), "no-model-call"),
        (_run(MESSAGES, {"output": "x"}, error="boom"), "provider-error"),
        (_feedback(run_id=None, score=1), "missing-field"),
        (_feedback(), "unread-feedback"),
        (_feedback(key=None, score=1), "missing-field"),
        (_feedback(key="k", score=float("nan")), "unread-feedback"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(row, reason):
    with pytest.raises(RecordError) as caught:
        parse(row)
    assert caught.value.reason == reason
