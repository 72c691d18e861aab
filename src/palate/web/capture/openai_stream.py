"""The chunks of an OpenAI chat stream, put together into the response that was not streamed.

The shape is that of "The chat completion chunk object" in OpenAI's API reference, read as other
servers write it too: an index or an id may be absent, come again, or come late.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from palate.records import RecordError

_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
_SPOKEN = ("content", "refusal", "reasoning_content", "reasoning")


def assemble(chunks: Iterable[dict[str, Any]], *, ended: bool) -> dict[str, Any]:
    """The response that the chunks amount to.

    `ended` tells whether the stream said that it was over; else each choice must have a
    finish_reason. Raises `RecordError`: ``stream-cut`` if neither is so, ``broken-stream`` for
    chunks that are none.
    """
    out: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        if chunk.get("error"):
            return {**out, "error": chunk["error"]}
        out |= {name: chunk[name] for name in _HEAD if chunk.get(name) and not out.get(name)}
        if isinstance(chunk.get("usage"), dict):
            out["usage"] = chunk["usage"]
        for part in _objects(chunk.get("choices")):
            _take(choices, part)
    done = [choices[index] for index in sorted(choices)]
    if not done or not (ended or all(choice["finish_reason"] for choice in done)):
        raise RecordError("stream-cut", "the stream ended before the answer did")
    for choice in done:
        for call in choice["message"].get("tool_calls", ()):
            del call["index"]  # which a call has only while it is streamed
            call.setdefault("type", "function")
    return {**out, "choices": done}


def _take(choices: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index", 0)
    if not isinstance(index, int):
        raise RecordError("broken-stream", "the index of a choice is not a number")
    empty = {"index": index, "message": {"role": "assistant", "content": None}}
    choice = choices.setdefault(index, {**empty, "finish_reason": None})
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]
    delta = part.get("delta")
    if delta is None:
        return
    if not isinstance(delta, dict):
        raise RecordError("broken-stream", "the delta of a choice is not an object")
    message = choice["message"]
    if delta.get("role"):
        message["role"] = delta["role"]
    for name in _SPOKEN:
        if isinstance(delta.get(name), str):
            message[name] = (message.get(name) or "") + delta[name]
    for call in _objects(delta.get("tool_calls")):
        _call(message.setdefault("tool_calls", []), call)
    if isinstance(delta.get("function_call"), dict):
        _extend(message.setdefault("function_call", {}), delta["function_call"])


def _call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add a piece to the call that it continues: of its index, unless it has another id."""
    index, name = piece.get("index"), piece.get("id")
    begun = [call for call in calls if index is None or call["index"] == index]
    call = begun[-1] if begun else None
    if call is None or (name and call.get("id") and call["id"] != name):
        call = {"index": len(calls) if index is None else index, "function": {}}
        calls.append(call)
    for field in ("id", "type"):
        if piece.get(field) and not call.get(field):
            call[field] = piece[field]
    if isinstance(piece.get("function"), dict):
        _extend(call["function"], piece["function"])


def _extend(function: dict[str, Any], piece: dict[str, Any]) -> None:
    if piece.get("name") and not function.get("name"):
        function["name"] = piece["name"]
    if isinstance(piece.get("arguments"), str):
        function["arguments"] = function.get("arguments", "") + piece["arguments"]


def _objects(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RecordError("broken-stream", "a chunk holds something else than a list of objects")
    return value
