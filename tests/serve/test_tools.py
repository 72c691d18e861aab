"""Tool calls in a model's text: two formats, and text that only looks like one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palate.serve.tools import Format, ToolReader, format_of

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'


def read(text: str, format: Format | None, size: int = 1) -> tuple[list[str], str, list[Any]]:
    reader = ToolReader(format, ["weather", "time"])
    shown = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)]
    rest, calls = reader.finish()
    for call in calls:
        assert call.pop("id").startswith("call_")
    return [piece for piece in shown if piece], rest, calls


def call(name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", "function": {"name": name, "arguments": text}}


def test_the_format_is_the_templates() -> None:
    assert format_of("… <tool_call> …") == "tags"
    assert format_of('tools: {"name": …, "parameters": …}') == "object"
    assert format_of("{{ messages }}") is None
    assert format_of(None) is None


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_words_are_shown_and_the_call_is_not(size: int) -> None:
    shown, rest, calls = read("Let me see: " + CALL, "tags", size)
    assert "".join(shown) == "Let me see: "
    assert (rest, calls) == ("", [call("weather", {"city": "Zürich"})])


def test_two_calls() -> None:
    second = CALL.replace("weather", "time")
    assert read(CALL + "\n" + second, "tags")[2] == [
        call("weather", {"city": "Zürich"}),
        call("time", {"city": "Zürich"}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>no json</tool_call>",
        CALL.replace("weather", "nuke"),  # not one of the tools that were offered
        "<tool_call>[]</tool_call>",
        '<tool_call>{"name": ["weather"], "arguments": {}}</tool_call>',
        '<tool_call>{"name": {"a": 1}, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"x": "\\ud83d"}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "\\ud83d"}</tool_call>',
        "a < b <tool",
    ],
)
def test_what_cannot_be_read_is_text(text: str) -> None:
    shown, rest, calls = read(text, "tags")
    assert "".join(shown) + rest == text
    assert calls == []


def test_words_after_a_call_are_kept() -> None:
    shown, rest, calls = read(f"One: {CALL} and more\n{CALL}\n", "tags")
    assert "".join(shown) + rest == "One:  and more\n"
    assert len(calls) == 2


def test_an_answer_that_is_one_object() -> None:
    said = '{"name": "time", "parameters": {"zone": "UTC"}}'
    assert read(said, "object") == ([], "", [call("time", {"zone": "UTC"})])
    assert read("It is {" + said, "object")[2] == []
    shown, rest, calls = read('{"a": 1}', "object")
    assert ("".join(shown) + rest, calls) == ('{"a": 1}', [])


def test_without_a_format_all_is_text() -> None:
    assert "".join(read(CALL, None)[0]) == CALL
