"""Checked parsing: what a row says becomes messages, or a `RecordError` says why not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import orjson

from palate.ingest.canonical import DEEPEST, check_unicode, depth
from palate.records import ROLES, Message, RecordError, canonical_json

# Role names as OpenAI, ShareGPT and LLaMA-Factory write them. Anything else is refused:
# a guessed role would put the customer's words under the assistant's loss.
ROLE_NAMES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
_LONG_NUMBER = re.compile(r"[0-9]{20}")
_TEXT_PARTS = {"text", "input_text", "output_text"}
# Where a row, or a message of Ollama's, keeps beside the words what is not words.
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")


def kind(value: object) -> str:
    """What a JSON value is, in words for an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def decoded(value: object) -> Any:
    """The list or object that `value` holds as JSON text, else `value` itself.

    CSV cells and many Parquet columns carry messages, tools and metadata as JSON text.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in {"[", "{"}:
        return value
    if _LONG_NUMBER.search(value) is None:  # which orjson would round
        try:
            return orjson.loads(value)
        except ValueError:
            pass  # the text may hold half of a surrogate pair, which is refused below
    try:
        inner = json.loads(value, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return value
    if depth(inner) > DEEPEST:
        return value
    if "\\ud" in value.lower():
        check_unicode(canonical_json(inner))
    return inner


def _finite(written: str) -> float:
    """The number; `ValueError` for one that JSON cannot hold."""
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{written} is no number of JSON's")
    return number


def need(row: dict[str, Any], name: str) -> Any:
    """`row[name]`; `RecordError` under ``missing-field`` if it is absent or null."""
    value = row.get(name)
    if value is None:
        raise RecordError("missing-field", f"the field '{name}' is missing or null")
    return value


def need_text(row: dict[str, Any], name: str) -> str:
    """`row[name]` as text; `RecordError` if it is absent or something else."""
    value = need(row, name)
    if not isinstance(value, str):
        raise RecordError("wrong-type", f"'{name}' is {kind(value)}, not text")
    return value


def refuse_media(scope: dict[str, Any]) -> None:
    """Refuse what comes with images, videos or sounds: without them the words mean another thing.

    Raises `RecordError` under ``unsupported-content``.
    """
    for name in _MEDIA:
        if scope.get(name) not in (None, False, "", [], "[]"):
            raise RecordError("unsupported-content", f"'{name}' stands beside the text")


def parse_messages(raw: object, where: str) -> tuple[Message, ...]:
    """A list of messages, in OpenAI's (role, content) or ShareGPT's (from, value) spelling."""
    raw = decoded(raw)
    if not isinstance(raw, list):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not a list of messages")
    return tuple(
        _words(item) or parse_message(item, f"{where}[{index}]") for index, item in enumerate(raw)
    )


def _words(raw: object) -> Message | None:
    """A message of a known role and text and nothing else, as nearly all are; else None."""
    if isinstance(raw, dict) and len(raw) == 2:
        role, content = raw.get("role"), raw.get("content")
        if isinstance(content, str) and isinstance(role, str) and role in ROLES:
            return Message(role, content)
    return None


def parse_message(raw: object, where: str) -> Message:
    """One message; tool calls are kept as they came, text parts are joined by line breaks."""
    if not isinstance(raw, dict):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not a message")
    refuse_media(raw)
    sharegpt = raw.get("from") is not None
    role_field, content_field = ("from", "value") if sharegpt else ("role", "content")
    said = raw.get(role_field)
    if said is None:
        raise RecordError("missing-field", f"'{where}' has no role")
    if not isinstance(said, str):
        raise RecordError("wrong-type", f"the role of '{where}' is {kind(said)}, not text")
    role = ROLE_NAMES.get(said.strip().lower())
    if role is None:
        raise RecordError("bad-role", f"'{where}' has the unknown role '{said[:40]}'")
    calls = _tool_calls(raw, where)
    content = raw.get(content_field)
    if said.strip().lower() in {"function_call", "tool_call"} and not calls:
        return Message(role, "", tool_calls=_spoken_call(content, where))
    if content is None and isinstance(raw.get("refusal"), str):
        content = raw["refusal"]
    if content is None and role != "assistant":
        raise RecordError("missing-field", f"'{where}' has no {content_field}")
    return Message(
        role=role,
        content=parse_content(content, where),
        tool_calls=calls,
        tool_call_id=_optional_text(raw, "tool_call_id", where),
        name=_optional_text(raw, "name", where),
    )


def parse_content(value: object, where: str) -> str:
    """Text as it is; a list of text parts joined by line breaks; null as empty text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RecordError("wrong-type", f"the content of '{where}' is {kind(value)}, not text")
    return "\n".join(_part(part, where) for part in value)


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RecordError("wrong-type", f"a part of '{where}' is {kind(part)}, not text")
    name = part.get("type", "text")
    text = part.get("refusal") if name == "refusal" else part.get("text")
    if name != "refusal" and (not isinstance(name, str) or name not in _TEXT_PARTS):
        raise RecordError("unsupported-content", f"'{where}' holds {name!s:.40}, not only text")
    if not isinstance(text, str):
        raise RecordError("wrong-type", f"a text part of '{where}' holds {kind(text)}")
    return text


def _tool_calls(raw: dict[str, Any], where: str) -> tuple[dict[str, Any], ...]:
    calls = raw.get("tool_calls")
    if calls is None and isinstance(raw.get("function_call"), dict):
        calls = [{"type": "function", "function": raw["function_call"]}]
    if calls is None:
        return ()
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RecordError("wrong-type", f"the tool calls of '{where}' are not a list of objects")
    return tuple(calls)


def _spoken_call(value: object, where: str) -> tuple[dict[str, Any], ...]:
    """ShareGPT writes a call as JSON text in a turn of its own: {name, arguments}."""
    calls = decoded(value)
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) and "name" in call for call in calls):
        raise RecordError("bad-tool-call", f"'{where}' is not a JSON object with name, arguments")
    return tuple({"type": "function", "function": call} for call in calls)


def _optional_text(raw: dict[str, Any], name: str, where: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise RecordError("wrong-type", f"the {name} of '{where}' is {kind(value)}, not text")
    return value


def parse_answer(raw: object, where: str) -> tuple[Message, ...]:
    """An answer written as text, as one message, or as a list of them; not yet checked."""
    value = as_messages(raw)
    if isinstance(value, str):
        return (Message("assistant", value),)
    if isinstance(value, dict):
        return (parse_message(value, where),)
    return parse_messages(value, where)


def as_messages(raw: object) -> object:
    """`raw`, or the messages it holds as JSON text.

    Text counts as messages only if it is a JSON list of objects that all have a role: an
    answer may itself be JSON, and must then stay the text it is.
    """
    value = decoded(raw)
    if isinstance(raw, str):
        roles = isinstance(value, list) and value and all(_has_role(item) for item in value)
        return value if roles else raw
    return value


def _has_role(item: object) -> bool:
    return isinstance(item, dict) and ("role" in item or "from" in item)


def check_prompt(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The prompt, if it says something and it is the assistant's turn to answer."""
    if not prompt:
        raise RecordError("empty-prompt", "the prompt has no message")
    last = prompt[-1]
    if last.role not in {"user", "tool"}:
        raise RecordError(
            "prompt-not-user", f"the prompt ends with a {last.role} turn, not with the user's"
        )
    if last.role == "user" and not last.content.strip():
        raise RecordError("empty-prompt", "the last message of the prompt is empty")
    return tuple(prompt)


def check_answer(answer: Sequence[Message], where: str) -> tuple[Message, ...]:
    """The answer, if it is the assistant's from its first turn to its last and not empty."""
    if not answer:
        raise RecordError("empty-answer", f"'{where}' has no message")
    if answer[0].role != "assistant" or answer[-1].role != "assistant":
        raise RecordError(
            "answer-not-assistant", f"'{where}' does not begin and end with an assistant turn"
        )
    if not any(m.content.strip() or m.tool_calls for m in answer if m.role == "assistant"):
        raise RecordError("empty-answer", f"'{where}' is empty")
    return tuple(answer)
