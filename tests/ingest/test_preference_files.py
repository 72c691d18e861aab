"""OpenAI preference files, TRL's data set types, HH-RLHF and LLaMA-Factory."""

import json
from pathlib import Path

import pytest

from palate.ingest import axolotl, llama_factory, openai_preference, read_examples, trl
from palate.records import Message, RecordError

USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello"}
BAD = {"role": "assistant", "content": "What?"}
SYSTEM = {"role": "system", "content": "Be kind."}
HUMAN = {"from": "human", "value": "Hi"}
CALL = {"name": "find", "arguments": {"q": "x"}}


def _said(example):
    """(role, content) of the prompt, then the text of each completion."""
    prompt = [(message.role, message.content) for message in example.prompt]
    return prompt, [completion.text for completion in example.completions]


HELLO = ([("user", "Hi")], ["Hello", "What?"])
WITH_SYSTEM = ([("system", "Be kind."), ("user", "Hi")], ["Hello", "What?"])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}, HELLO),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, HELLO),
        ({"prompt": [USER], "chosen": GOOD, "rejected": BAD}, HELLO),
        ({"prompt": [USER], "chosen": "Hello", "rejected": "What?"}, HELLO),
        # the answers repeat the prompt
        ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}, HELLO),
        ({"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, HELLO),
        (
            {"prompt": "Hi", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
            WITH_SYSTEM,
        ),
        # implicit prompt: messages, transcripts, plain text
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, HELLO),
        ({"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}, WITH_SYSTEM),
        (
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
                "rejected": "\n\nHuman: Hi\n\nAssistant: What?",
            },
            HELLO,
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is black."},
            ([("user", "The sky is")], [" blue.", " black."]),
        ),
        ({"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello", "rejected": "What?"}, HELLO),
        # messages as JSON text, as CSV and Parquet carry them
        (
            {
                "prompt": json.dumps([USER]),
                "chosen": json.dumps([GOOD]),
                "rejected": json.dumps([BAD]),
            },
            HELLO,
        ),
        # but an answer that is JSON stays text
        (
            {"prompt": "Hi", "chosen": '{"a": 1}', "rejected": "[1]"},
            ([("user", "Hi")], ['{"a": 1}', "[1]"]),
        ),
    ],
)
def test_trl_pairs(row, expected):
    assert trl.sniff(row)
    (example,) = trl.parse(row)
    assert _said(example) == expected
    assert example.chosen.text == expected[1][0]


def test_history_that_differs_belongs_to_the_answers():
    """The shared beginning ends where the assistant's turns part, not at a user's turn."""
    more = {"role": "user", "content": "More"}
    chosen, rejected = [USER, GOOD, more, GOOD], [USER, GOOD, {**more, "content": "Less"}, BAD]
    (example,) = trl.parse({"chosen": chosen, "rejected": rejected})
    assert [m.content for m in example.prompt] == ["Hi"]
    assert [m.content for m in example.chosen.messages] == ["Hello", "More", "Hello"]


@pytest.mark.parametrize(
    ("label", "expected"), [(True, True), (False, False), (0, False), ("True", True), ("0", False)]
)
def test_trl_unpaired(label, expected):
    (example,) = trl.parse({"prompt": "Hi", "completion": "Hello", "label": label})
    assert example.completions[0].label is expected


def test_trl_demonstrations():
    (example,) = trl.parse({"prompt": "Hi", "completion": "Hello"})
    assert example.shape == "demonstration"
    (example,) = trl.parse({"messages": [SYSTEM, USER, GOOD, {**USER, "content": "More"}, BAD]})
    assert [m.role for m in example.prompt] == ["system", "user"]
    assert [m.role for m in example.completions[0].messages] == ["assistant", "user", "assistant"]


def test_short_columns_and_metadata_become_tags():
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "topic": "refund", "n": 3}
    (example,) = trl.parse({**row, "long": "x" * 201, "metadata": {"shift": "night"}})
    assert example.tags == {"topic": "refund", "n": "3", "shift": "night"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "a"}, "missing-field"),
        ({"prompt": "Hi"}, "missing-field"),
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "missing-field"),
        ({"prompt": "Hi", "chosen": "", "rejected": "b"}, "empty-answer"),
        ({"prompt": "Hi", "chosen": "a", "rejected": " \n"}, "empty-answer"),
        ({"prompt": "Hi", "chosen": [], "rejected": [BAD]}, "empty-answer"),
        ({"prompt": "Hi", "chosen": "a", "rejected": " a "}, "equal-answers"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "empty-prompt"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "empty-prompt"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "wrong-type"),
        ({"prompt": "Hi", "chosen": 7, "rejected": 8}, "wrong-type"),
        ({"prompt": "Hi", "chosen": "a", "rejected": [BAD]}, "wrong-type"),
        ({"prompt": [USER, GOOD], "chosen": "a", "rejected": "b"}, "prompt-not-user"),
        ({"prompt": "Yo", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "prompt-mismatch"),
        ({"prompt": "Hi", "chosen": [GOOD, USER], "rejected": [BAD]}, "answer-not-assistant"),
        ({"chosen": "Yes.", "rejected": "No."}, "no-shared-prompt"),
        ({"chosen": [USER, GOOD], "rejected": [SYSTEM, USER, BAD]}, "no-shared-prompt"),
        ({"chosen": [USER, GOOD], "rejected": [USER, USER, BAD]}, "no-shared-prompt"),
        ({"chosen": "Same", "rejected": "Same"}, "equal-answers"),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "equal-answers"),
        ({"chosen": "", "rejected": "No."}, "empty-answer"),
        ({"chosen": "The sky", "rejected": "The sky is"}, "empty-answer"),
        ({"prompt": "Hi", "completion": "a", "label": None}, "bad-label"),
        ({"prompt": "Hi", "completion": "a", "label": "maybe"}, "bad-label"),
        ({"prompt": "Hi", "completion": "a", "label": 2}, "bad-label"),
        ({"completion": "a"}, "missing-field"),
        ({"prompt": "Hi", "completion": "a", "rating": "down"}, "unread-feedback"),
        ({"messages": [USER, GOOD], "metadata": {"feedback": "down"}}, "unread-feedback"),
        ({"messages": [USER]}, "no-reply"),
        ({"messages": [USER, GOOD, USER]}, "answer-not-assistant"),
        ({"prompt": '[{"role": "user", "content": "\\ud83d"}]', "completion": "a"}, "bad-unicode"),
    ],
)
def test_trl_refuses(row, reason):
    with pytest.raises(RecordError) as caught:
        trl.parse(row)
    assert caught.value.reason == reason


def test_openai_preference():
    tool = {"type": "function", "function": {"name": "find"}}
    row = {
        "input": {"messages": [SYSTEM, USER], "tools": [tool], "parallel_tool_calls": True},
        "preferred_output": [GOOD],
        "non_preferred_output": [BAD],
    }
    assert openai_preference.sniff(row)
    (example,) = openai_preference.parse(row)
    assert _said(example) == WITH_SYSTEM
    assert example.tools == (tool,)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input": "Hi"}, "wrong-type"),
        ({"input": {}}, "missing-field"),
        ({"preferred_output": None}, "missing-field"),
        ({"preferred_output": []}, "empty-answer"),
        ({"preferred_output": [BAD]}, "equal-answers"),
        ({"preferred_output": [USER]}, "answer-not-assistant"),
    ],
)
def test_openai_preference_refuses(fields, reason):
    row = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
    with pytest.raises(RecordError) as caught:
        openai_preference.parse({**row, **fields})
    assert caught.value.reason == reason


GPT = {"from": "gpt", "value": "Hello"}
RUDE = {"from": "gpt", "value": "What?"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": RUDE}, HELLO),
        (
            {"conversations": [HUMAN], "chosen": GPT, "rejected": RUDE, "system": "Be kind."},
            WITH_SYSTEM,
        ),
        ({"messages": [USER], "chosen": GOOD, "rejected": BAD}, HELLO),
        ({"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "What?"}, HELLO),
        (
            {
                "instruction": "Fix",
                "input": "teh",
                "output": "the",
                "chosen": "the",
                "rejected": "no",
            },
            ([("user", "Fix\nteh")], ["the", "no"]),
        ),
        ({"instruction": "Hi", "output": "Hello"}, ([("user", "Hi")], ["Hello"])),
        (
            {"instruction": "And?", "output": "No", "history": [["Hi", "Hello"]]},
            ([("user", "Hi"), ("assistant", "Hello"), ("user", "And?")], ["No"]),
        ),
        ({"conversations": [HUMAN, GPT]}, ([("user", "Hi")], ["Hello"])),
    ],
)
def test_llama_factory(row, expected):
    assert llama_factory.sniff(row)
    (example,) = llama_factory.parse(row)
    assert _said(example) == expected


def test_a_label_speaks_about_the_last_reply():
    row = {"messages": [USER, GOOD, {**USER, "content": "More"}, BAD], "label": False}
    assert llama_factory.sniff(row)
    (example,) = llama_factory.parse(row)
    assert len(example.prompt) == 3
    assert (example.completions[0].text, example.completions[0].label) == ("What?", False)


def test_sharegpt_tools():
    turns = [
        HUMAN,
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "found"},
        GPT,
    ]
    (example,) = llama_factory.parse({"conversations": turns, "tools": '[{"name": "find"}]'})
    assert example.tools == ({"name": "find"},)
    assert example.completions[0].messages == (
        Message("assistant", "", tool_calls=({"type": "function", "function": CALL},)),
        Message("tool", "found"),
        Message("assistant", "Hello"),
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"conversations": [HUMAN, GPT], "chosen": GPT, "rejected": RUDE}, "prompt-not-user"),
        ({"conversations": [HUMAN], "chosen": GPT}, "missing-field"),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": GPT}, "equal-answers"),
        ({"conversations": [{"from": "alien", "value": "x"}, GPT]}, "bad-role"),
        ({"conversations": [HUMAN, {"from": "function_call", "value": "find!"}]}, "bad-tool-call"),
        ({"conversations": [{"from": "human"}, GPT]}, "missing-field"),
        ({"conversations": []}, "no-reply"),
        ({"conversations": [HUMAN, GPT], "rating": "down"}, "unread-feedback"),
        ({"instruction": " ", "output": "x"}, "empty-prompt"),
        ({"instruction": "Hi", "output": None}, "missing-field"),
        ({"instruction": ["Hi"], "output": "x"}, "wrong-type"),
        ({"instruction": "Hi", "output": "x", "history": [["a"]]}, "wrong-type"),
        ({"messages": [USER, GOOD], "label": "billing"}, "bad-label"),
        ({"messages": [], "label": True}, "empty-answer"),
    ],
)
def test_llama_factory_refuses(row, reason):
    with pytest.raises(RecordError) as caught:
        llama_factory.parse(row)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (llama_factory, {"messages": [USER], "chosen": GOOD, "rejected": BAD, "images": ["a.png"]}),
        (llama_factory, {"conversations": [HUMAN, {"from": "gpt", "value": "x"}], "image": "a"}),
        (trl, {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD], "images": [{"bytes": "x"}]}),
        (axolotl, {"question": "Hi", "chosen": "Hello", "rejected": "What?", "audio": {"a": 1}}),
        (trl, {"messages": [{**USER, "images": ["aGk="]}, GOOD]}),  # Ollama's messages
    ],
)
def test_what_comes_with_images_is_not_learned_without_them(read, row):
    assert read.sniff(row)
    with pytest.raises(RecordError) as caught:
        read.parse(row)
    assert caught.value.reason == "unsupported-content"
    for empty in (None, [], "", False):
        blind = {k: empty if k in ("images", "image", "audio") else v for k, v in row.items()}
        if blind != row:
            read.parse(blind)


def test_trl_pairs_may_have_a_strength(tmp_path: Path) -> None:
    pair = {"prompt": "p", "chosen": "yes", "rejected": "no"}
    path = tmp_path / "a.jsonl"
    values = [0.75, 1, 0, 1.5, True, "0.7", None]
    rows = [{**pair, "prompt": f"p{n}", "strength": v} for n, v in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(read_examples(path))
    assert [e.verdict.strength for e in found if e.verdict] == [0.75, 1.0, *[None] * 5]
    tags = [e.tags.get("strength") for e in found]
    assert tags == [None, None, "0", "1.5", "true", "0.7", None]
