"""Keys and redacted words are gone from every text of a row; names stay."""

from __future__ import annotations

import pytest

from palate.config import ConfigError
from palate.records import RecordError
from palate.web.capture.cleaning import Cleaner, load_redaction

KEY = "sk-proj-0123456789"


def test_a_key_is_taken_out_wherever_it_stands():
    row = {
        "request": {"messages": [{"role": "user", "content": f"my key is {KEY}."}], KEY: 1},
        "response": {"id": f"x{KEY}", "choices": [{"message": {"content": [KEY, None, 2]}}]},
    }
    cleaned = Cleaner(None).clean(row, (f"Bearer {KEY}", KEY))
    assert KEY not in str(cleaned)
    assert cleaned["request"]["messages"][0]["content"] == "my key is [key]."
    assert cleaned["response"]["choices"][0]["message"]["content"] == ["[key]", None, 2]


def test_words_are_redacted_and_names_are_not():
    row = {
        "request": {
            "model": "anna",
            "user": "anna",
            "messages": [{"role": "user", "content": "I am anna"}],
            "tools": [{"function": {"description": "for anna"}}],
            "metadata": {"conversation_id": "anna", "note": "anna"},
        },
        "response": {
            "id": "anna",
            "choices": [
                {
                    "message": {
                        "content": "Hi anna",
                        "tool_calls": [
                            {"id": "anna", "function": {"name": "anna", "arguments": '"anna"'}}
                        ],
                    },
                    "finish_reason": "anna",
                }
            ],
        },
    }
    cleaned = Cleaner(lambda: lambda text: text.replace("anna", "<NAME>")).clean(row)
    request, (choice,) = cleaned["request"], cleaned["response"]["choices"]
    assert request["messages"][0]["content"] == "I am <NAME>"
    assert request["metadata"] == {"conversation_id": "anna", "note": "<NAME>"}
    assert (request["user"], request["model"], request["tools"]) == (
        "anna",
        "anna",
        row["request"]["tools"],
    )
    assert cleaned["response"]["id"] == choice["finish_reason"] == "anna"
    (call,) = choice["message"]["tool_calls"]
    assert call == {"id": "anna", "function": {"name": "anna", "arguments": '"<NAME>"'}}


def test_the_edit_and_the_comment_of_feedback_are_redacted():
    row = {"feedback": {"id": "anna", "user": "anna", "edit": "anna", "comment": "anna"}}
    cleaned = Cleaner(lambda: lambda _: "-").clean(row)["feedback"]
    assert cleaned == {"id": "anna", "user": "anna", "edit": "-", "comment": "-"}


def test_a_text_is_redacted_once_however_often_it_is_sent(tmp_path):
    """A conversation sends its earlier turns again with each new one."""
    file = tmp_path / "house.py"
    file.write_text("asked = []\ndef redact(text):\n    asked.append(text)\n    return text\n")
    begin = load_redaction(f"{file}:redact")
    long = "x" * 30_000
    for _ in range(3):
        Cleaner(begin).clean({"content": "again", "more": ["again", long]})
    asked = begin().__closure__[0].cell_contents.__globals__["asked"]
    assert asked == ["again", long, long, long]


def test_personal_data_has_one_name_throughout_a_row():
    begin = load_redaction("personal")
    said = "write to anna.berg@example.com or to li@example.org"
    arguments = '{"to": "li@example.org"}'
    row = {
        "request": {"messages": [{"role": "user", "content": said}]},
        "response": {"choices": [{"message": {"tool_calls": [{"arguments": arguments}]}}]},
    }
    for _ in range(2):  # the second row begins to count anew
        cleaned = Cleaner(begin).clean(row)
        (message,) = cleaned["request"]["messages"]
        assert message["content"] == "write to <EMAIL_ADDRESS> or to <EMAIL_ADDRESS_2>"
        (call,) = cleaned["response"]["choices"][0]["message"]["tool_calls"]
        assert call["arguments"] == '{"to": "<EMAIL_ADDRESS_2>"}'


@pytest.mark.parametrize("redact", [lambda _: 1 / 0, lambda _: None])
def test_a_redaction_that_fails_lets_nothing_through(redact):
    with pytest.raises(RecordError) as caught:
        Cleaner(lambda: redact).clean({"content": "secret"})
    assert caught.value.reason == "redaction-failed"
    assert "secret" not in str(caught.value)


def test_a_function_is_found_in_a_file_or_in_a_module(tmp_path):
    file = tmp_path / "house.py"
    file.write_text("def shout(text):\n    return text.upper()\n")
    assert load_redaction(f"{file}:shout")()("a") == "A"
    assert load_redaction("textwrap:dedent")()("  a") == "a"
    assert load_redaction(None) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shout", "is not personal, module:function"),
        ("textwrap:no-name", "is not personal, module:function"),
        ("textwrap:nothing", "has no function 'nothing'"),
        ("no_such_module_here:f", "cannot load"),
        ("no_such_file.py:f", "cannot load"),
    ],
)
def test_a_function_that_is_not_there_is_an_error(spec, words):
    with pytest.raises(ConfigError, match=words):
        load_redaction(spec)
