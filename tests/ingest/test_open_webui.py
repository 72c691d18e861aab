"""Open WebUI: a rating, the branch of the chat it belongs to, and the answers beside it."""

import copy

import pytest
from tests.ingest.fixture_rows import (
    FOUND,
    RENT,
    SYSTEM,
    answer,
    read,
    rows,
    signals,
    tool_call,
)

from palate.ingest.open_webui import ids_of, parse
from palate.records import Message, RecordError, Verdict


def test_the_fixture():
    found, rejects = read("open-webui")
    assert rejects == {5: "unsupported-content"}
    arena, *_ = found[1]
    # the branch that was rated, after the chat's own system prompt
    assert arena.record.prompt == (
        SYSTEM,
        RENT,
        Message("assistant", "Yes."),
        Message("user", "How much?"),
    )
    # the rated answer without its reasoning, and the one of the other model
    assert arena.record.completions == (
        answer(Message("assistant", "5 a day."), source="gpt-small", label=True),
        answer(Message("assistant", "I cannot say."), source="claude-small"),
    )
    assert arena.record.verdict == Verdict(0, 1, by="vote")
    assert arena.record.tags == {
        "conversation_id": "chat-0001",
        "reason": "accurate_information",
        "arena": "true",
        "tags": "orders",
    }
    assert (arena.ids, arena.user) == (("open-webui:message/m-a-0002+m-a-0003",), "u-311")
    # 1 760 000 003 s after 1970
    assert arena.record.provenance[0].time == "2025-10-09T08:53:23+00:00"
    assert signals(found[1]) == [{"kind": "score", "choice": 0, "score": 9.0, "name": "rating"}]
    (alone,) = found[2]
    assert (alone.record.verdict, alone.record.completions[0].label) == (None, False)
    assert alone.ids == ("open-webui:message/m-a-0011",)
    several, *_ = found[3]
    # the thumb down votes for each answer that is not rated down itself
    assert [one.label for one in several.record.completions] == [False, None, None, False]
    assert several.record.verdict is None
    assert signals(found[3]) == [
        {"kind": "vote", "choice": 1, "over": 0},
        {"kind": "vote", "choice": 2, "over": 0},
    ]
    assert found[3][1].record.about == several.ids
    assert signals(found[4]) == [{"kind": "thumb", "choice": 0, "label": True, "comment": "thanks"}]
    assert found[4][0].record.about == ("open-webui:message/m-a-0031",)


def test_a_rating_that_comes_again_with_another_answer_is_another_interaction():
    row = rows("open-webui")[1]
    more = copy.deepcopy(row)
    messages = more["snapshot"]["chat"]["chat"]["history"]["messages"]
    messages["m-a-0012"] = {**messages["m-a-0011"], "id": "m-a-0012", "content": "Hello!"}
    assert ids_of(row) != ids_of(more)
    example, *_ = parse(more)
    assert example.verdict == Verdict(1, 0, by="vote")


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_chat_may_be_wrapped_in_its_record(wrapped):
    row = copy.deepcopy(rows("open-webui")[1])
    if not wrapped:
        row["snapshot"]["chat"] = row["snapshot"]["chat"]["chat"]
    example, *_ = parse(row)
    assert example.completions[0].text == "What?"


def _with(change):
    row = copy.deepcopy(rows("open-webui")[1])
    change(row, row["snapshot"]["chat"]["chat"]["history"]["messages"])
    return row


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row, _: row["data"].update(rating=None), "missing-field"),
        (lambda row, _: row["data"].update(rating=0), "unknown-feedback"),
        (lambda row, _: row["meta"].update(message_id="m-x"), "missing-field"),
        (lambda row, _: row.update(snapshot=None, meta={}), "missing-field"),
        (lambda _, messages: messages.pop("m-q-0011"), "empty-prompt"),
        (lambda _, messages: messages["m-a-0011"].update(content=""), "empty-answer"),
        (lambda _, messages: messages["m-a-0011"].update(content=["x"]), "wrong-type"),
        (
            lambda _, messages: messages["m-a-0011"].update(error={"content": "500"}),
            "provider-error",
        ),
        (lambda _, messages: messages["m-q-0011"].update(role="narrator"), "bad-role"),
        (lambda _, messages: messages["m-q-0011"].update(parentId="m-a-0011"), "wrong-type"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(change, reason):
    row = _with(change)
    with pytest.raises(RecordError) as caught:
        parse(row)
    assert caught.value.reason == reason
    ids_of(row)  # does not raise


def test_errors_and_unfinished_answers_are_not_beside_the_rated_one():
    def change(_, messages):
        rated = messages["m-a-0011"]
        messages["m-b"] = {**rated, "content": "Half", "done": False}
        messages["m-c"] = {**rated, "content": "429", "error": True}
        messages["m-d"] = {**rated, "content": '<details type="reasoning">x</details>'}

    example, *_ = parse(_with(change))
    assert len(example.completions) == 1


CALLED = (
    '<details type="tool_calls" done="true" id="call_7f" name="find_order" '
    'arguments="&quot;{\\&quot;number\\&quot;: \\&quot;A-17\\&quot;}&quot;" '
    'result="{&quot;status&quot;: &quot;shipped&quot;}" files="" embeds="">\n'
    "<summary>Tool Executed</summary>\n</details>\n"
)


def _rated(content):
    row = rows("open-webui")[1]
    key = row["meta"]["message_id"]
    row["snapshot"]["chat"]["chat"]["history"]["messages"][key]["content"] = content
    return row


def test_tool_calls_in_an_answer_become_turns():
    thought = '<details type="reasoning" done="true">\n> Hm.\n</details>\n'
    (example, *_) = parse(_rated(f"{thought}I look.\n{CALLED}It is on its way."))
    made = tool_call('{"number": "A-17"}')
    turns = (
        Message("assistant", "I look.", (made,)),
        Message("tool", FOUND.replace(": ", ":"), tool_call_id="call_7f"),
        Message("assistant", "It is on its way."),
    )
    assert example.completions == (answer(*turns, source="gpt-small", label=False),)
    # two at once are calls of one turn; a word between them makes two turns
    (both, *_) = parse(_rated(f"{CALLED}{CALLED}Done."))
    roles = [(turn.role, len(turn.tool_calls)) for turn in both.completions[0].messages]
    assert roles == [("assistant", 2), ("tool", 0), ("tool", 0), ("assistant", 0)]
    (apart, *_) = parse(_rated(f"{CALLED}Again.{CALLED}Done."))
    assert [m.content for m in apart.completions[0].messages if m.role == "assistant"] == [
        "",
        "Again.",
        "Done.",
    ]


def test_a_result_within_the_block_and_one_that_is_missing():
    inside = CALLED.replace(' result="{&quot;status&quot;: &quot;shipped&quot;}"', "")
    later = inside.replace("</summary>\n", "</summary>\n&quot;on its way&quot;\n")
    (example, *_) = parse(_rated(f"{later}It is."))
    assert example.completions[0].messages[1].content == "on its way"
    for broken in (inside, CALLED.replace('done="true"', 'done="false"')):
        with pytest.raises(RecordError) as caught:
            parse(_rated(f"{broken}It is."))
        assert caught.value.reason == "bad-tool-call"


def test_what_a_model_ran_aloud_is_left_out():
    ran = '<details type="code_interpreter" done="true">\n```python\n1+1\n```\n</details>\n2.'
    (example, *_) = parse(_rated(ran))
    assert example.completions[0].text == "2."
