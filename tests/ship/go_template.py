"""As much of Go's text/template as an Ollama TEMPLATE of ours uses, written from its documentation.

`{{ range $i, $m := .Messages }}`, `{{ if PIPE }}`, `{{ end }}`, fields, `eq`, `and`, `not`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
WORD = re.compile(r'"[^"]*"|[()]|[^\s()]+')


def execute(template: str, data: Mapping[str, Any]) -> str:
    """The text that Go would write; `AssertionError` for what is not known here."""
    parts = ACTION.split(template)  # text, action, text, action, …
    out, at = _block(parts, 0, {"": data, "$": data})
    assert at == len(parts), "an end without a beginning"
    return out


def as_ollama(template: str, turns: Sequence[tuple[str, str]]) -> str:
    """What Ollama hands to the template: all messages, and the system prompts joined."""
    return execute(
        template,
        {
            "Messages": [{"Role": role, "Content": text} for role, text in turns],
            "System": "\n\n".join(text for role, text in turns if role == "system"),
        },
    )


def _block(parts: Sequence[str], at: int, scope: dict[str, Any]) -> tuple[str, int]:
    """From a text at `at` to the matching end, or the end of everything."""
    out = parts[at]
    at += 1
    while at < len(parts):
        action = parts[at]
        if action == "end":
            return out, at + 1
        head, _, rest = action.partition(" ")
        if head == "if":
            inner, after = _block(parts, at + 1, scope)
            out += inner if _value(rest, scope) else ""
        elif head == "range":
            names, _, source = rest.partition(" := ")
            index, item = names.split(", ")
            after = _skip(parts, at + 1)
            for number, value in enumerate(_value(source, scope)):
                out += _block(parts, at + 1, {**scope, index: number, item: value})[0]
        else:
            out, after = out + str(_value(action, scope)), at + 1
        out += parts[after]
        at = after + 1
    return out, at


def _skip(parts: Sequence[str], at: int) -> int:
    """The text after the end that matches."""
    depth = 1
    for place in range(at + 1, len(parts), 2):
        depth += parts[place].startswith(("if ", "range ")) - (parts[place] == "end")
        if depth == 0:
            return place + 1
    raise AssertionError("a beginning without an end")


def _value(pipe: str, scope: Mapping[str, Any]) -> Any:
    words = WORD.findall(pipe)
    value, rest = _term(words, scope)
    assert not rest, f"not understood: {pipe}"
    return value


def _term(words: list[str], scope: Mapping[str, Any]) -> tuple[Any, list[str]]:
    head, rest = words[0], words[1:]
    if head in {"eq", "and", "not"}:
        values = []
        while rest and rest[0] != ")":
            value, rest = _operand(rest, scope)
            values.append(value)
        if head == "not":
            return not values[0], rest
        return (values[0] == values[1] if head == "eq" else all(values)), rest
    return _operand(words, scope)


def _operand(words: list[str], scope: Mapping[str, Any]) -> tuple[Any, list[str]]:
    head, rest = words[0], words[1:]
    if head == "(":
        value, rest = _term(rest, scope)
        assert rest[0] == ")"
        return value, rest[1:]
    if head.startswith('"'):
        return head[1:-1], rest
    if head.isdigit():
        return int(head), rest
    name, *fields = head.split(".")
    value = scope[name]
    for field in fields:
        value = value[field]
    return value, rest
