"""Messages in the words of other APIs: Anthropic's blocks, LangChain's objects, OpenAI's items.

Whatever comes in, what goes out is what chat templates take: one message a turn, tool calls as
``{id, type: "function", function: {name, arguments}}``, and each tool's result as a turn of its
own. Arguments stay what they were, text or an object. What the model thought to itself is left
out: it was no part of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.ingest.messages import decoded, kind, parse_content, parse_message
from palate.records import Message, RecordError

_UNSPOKEN = {"thinking", "redacted_thinking", "reasoning"}
_ANTHROPIC = {*_UNSPOKEN, "tool_use", "tool_result"}
_LANGCHAIN_ROLES = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "remove": "",
}
_LANGCHAIN_CLASSES = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
}


def parse_turns(raw: object, where: str, *, blocks: bool = False) -> tuple[Message, ...]:
    """Messages in any of the dialects, or text, which is the user's.

    With `blocks`, lists of text are Anthropic's, whose pieces follow each other without a break.
    """
    raw = decoded(raw)
    if isinstance(raw, str):
        return (Message("user", raw),)
    if isinstance(raw, dict):
        raw = [raw]
    if not isinstance(raw, list):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not a list of messages")
    if len(raw) == 1 and isinstance(raw[0], list):  # LangChain's batch of one
        raw = raw[0]
    out: list[Message] = []
    for index, item in enumerate(raw):
        turns = _turns_of(item, f"{where}[{index}]", blocks)
        if _is_item_call(item) and out and out[-1].role == "assistant":
            turns = (_joined(out.pop(), turns[0]),)
        out += turns
    return tuple(out)


def is_message(value: object) -> bool:
    """Whether an object is a message in one of the dialects."""
    if not isinstance(value, dict):
        return False
    if "role" in value or "from" in value or _type(value) in _ITEMS:
        return True
    return _langchain(value) is not value


def parse_blocks(role: str, content: object, where: str) -> tuple[Message, ...]:
    """One message of Anthropic's: its tool results as turns of their own, then what it says."""
    if content is None or isinstance(content, str):
        return (Message(role, content or ""),)
    if not isinstance(content, list):
        raise RecordError("wrong-type", f"the content of '{where}' is {kind(content)}, not text")
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for block in content:
        named = _type(block)
        if named == "text" and isinstance(block.get("text"), str):
            text.append(block["text"])
        elif named == "tool_use":
            calls.append(call(block.get("name"), block.get("input"), block.get("id"), where))
        elif named == "tool_result":
            results.append(_tool_result(block, where))
        elif named not in _UNSPOKEN:
            shown = named[:40] or kind(block)
            raise RecordError("unsupported-content", f"'{where}' holds {shown}, not only text")
    if results and not text:
        return tuple(results)
    said = ("" if role == "assistant" else "\n").join(text)
    return (*results, Message(role, said, tool_calls=tuple(calls)))


def call(name: object, arguments: object, key: object, where: str) -> dict[str, Any]:
    """A tool call as chat templates take it, `key` its id; null arguments are an empty object."""
    if not isinstance(name, str) or not name:
        raise RecordError("bad-tool-call", f"a tool call of '{where}' has no name")
    function = {"name": name, "arguments": {} if arguments is None else arguments}
    said = {"type": "function", "function": function}
    return {"id": key, **said} if isinstance(key, str) else said


def tool_definitions(raw: object) -> tuple[dict[str, Any], ...]:
    """Tools as chat templates take them, whether the API wraps them in `function` or not."""
    raw = decoded(raw)
    if raw is None or raw == "":
        return ()
    if not isinstance(raw, list) or not all(isinstance(tool, dict) for tool in raw):
        raise RecordError("wrong-type", f"'tools' is {kind(raw)}, not a list of objects")
    return tuple(_tool_definition(tool) for tool in raw)


def _type(value: object) -> str:
    """The `type` of an object; empty where there is none."""
    found = value.get("type") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _tool_definition(tool: dict[str, Any]) -> dict[str, Any]:
    if isinstance(tool.get("function"), dict) or not isinstance(tool.get("name"), str):
        return tool
    parameters = tool.get("input_schema", tool.get("parameters"))
    function = {"name": tool["name"], "description": tool.get("description")}
    function |= {"parameters": parameters}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _turns_of(raw: object, where: str, blocks: bool) -> Sequence[Message]:
    if isinstance(raw, dict) and _type(raw) in _ITEMS and "role" not in raw:
        return _ITEMS[_type(raw)](raw, where)
    message = _with_calls(_langchain(raw), where)
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return (parse_message(message, where),)
    content = message["content"]
    if not blocks and not any(_type(part) in _ANTHROPIC for part in content):
        return (parse_message(message, where),)
    spoken = parse_message({**message, "content": ""}, where)
    turns = parse_blocks(spoken.role, content, where)
    if spoken.tool_calls and turns[-1].role == "assistant" and not turns[-1].tool_calls:
        last = Message("assistant", turns[-1].content, spoken.tool_calls)
        return (*turns[:-1], last)
    return turns


def _tool_result(block: dict[str, Any], where: str) -> Message:
    said = parse_content(block.get("content"), where)
    return Message("tool", said, tool_call_id=_text_or_none(block.get("tool_use_id")))


def _langchain(raw: object) -> object:
    """A LangChain message as one of OpenAI's; anything else as it is."""
    if not isinstance(raw, dict) or "role" in raw or "from" in raw:
        return raw
    path, named = raw.get("id"), raw.get("type")
    if named == "constructor" and isinstance(path, list) and path and isinstance(path[-1], str):
        role = _LANGCHAIN_CLASSES.get(path[-1].removesuffix("Chunk"))
        said = raw.get("kwargs")
    elif isinstance(named, str):
        role = _LANGCHAIN_ROLES.get(named.removesuffix("MessageChunk").lower())
        said = raw.get("data", raw if "content" in raw else None)
    else:
        return raw
    if role is None or not isinstance(said, dict):
        return raw
    more = said.get("additional_kwargs")
    calls = said.get("tool_calls") or (more.get("tool_calls") if isinstance(more, dict) else None)
    out = {"role": role, "content": said.get("content"), "tool_calls": calls or None}
    return out | {name: said.get(name) for name in ("name", "tool_call_id")}


def _with_calls(message: object, where: str) -> object:
    """The message with LangChain's calls, `{name, args, id}`, as everybody else's."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_langchain_call(one, where) for one in calls]}


def _langchain_call(raw: object, where: str) -> object:
    if isinstance(raw, dict) and "args" in raw and "function" not in raw:
        return call(raw.get("name"), raw["args"], raw.get("id"), where)
    return raw


def _item_call(item: dict[str, Any], where: str) -> tuple[Message, ...]:
    made = call(item.get("name"), item.get("arguments"), item.get("call_id"), where)
    return (Message("assistant", "", tool_calls=(made,)),)


def _item_result(item: dict[str, Any], where: str) -> tuple[Message, ...]:
    said = parse_content(item.get("output"), where)
    return (Message("tool", said, tool_call_id=_text_or_none(item.get("call_id"))),)


def _item_unspoken(_item: dict[str, Any], _where: str) -> tuple[Message, ...]:
    return ()


# Items of OpenAI's Responses API that are no messages.
_ITEMS = {
    "function_call": _item_call,
    "function_call_output": _item_result,
    "reasoning": _item_unspoken,
}


def _is_item_call(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "function_call" and "role" not in item


def _joined(first: Message, then: Message) -> Message:
    """What the assistant said, and the calls that follow as items, as one turn."""
    return Message("assistant", first.content, first.tool_calls + then.tool_calls)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
