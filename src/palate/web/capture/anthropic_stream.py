"""The events of an Anthropic message stream, put together into the message that was not streamed.

The events are those of "Streaming messages" in Anthropic's API reference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from palate.records import RecordError

_PIECES = "partial_json"
# What a delta of each type adds to which field of its block.
_TEXT_OF = {
    "input_json_delta": ("partial_json", _PIECES),
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
}


def assemble(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events amount to, or `{error}`.

    Raises `RecordError`: ``stream-cut`` without a `message_stop`, ``broken-stream`` for events
    out of order.
    """
    message: dict[str, Any] = {}
    for event in events:
        match event.get("type"):
            case "message_start":
                message = {**_object(event, "message"), "content": []}
            case "content_block_start":
                message.setdefault("content", []).append(dict(_object(event, "content_block")))
            case "content_block_delta":
                _extend(_block(message, event.get("index")), _object(event, "delta"))
            case "message_delta":
                message |= _object(event, "delta")
                message["usage"] = {**message.get("usage", {}), **event.get("usage", {})}
            case "error":
                return {**message, "error": event.get("error")}
            case "message_stop":
                for block in message.get("content", ()):
                    _read_input(block)
                return message
    raise RecordError("stream-cut", "the stream ended before the answer did")


def _extend(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta.get("type") in _TEXT_OF:
        source, target = _TEXT_OF[delta["type"]]
        block[target] = str(block.get(target) or "") + str(delta.get(source, ""))


def _read_input(block: dict[str, Any]) -> None:
    """The input of a tool call arrives as pieces of JSON text."""
    text = block.pop(_PIECES, "")
    if text:
        try:
            block["input"] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError("broken-stream", f"the input of a tool is no JSON: {error}") from None


def _block(message: dict[str, Any], index: object) -> dict[str, Any]:
    blocks = message.get("content", [])
    if not isinstance(index, int) or not 0 <= index < len(blocks):
        raise RecordError("broken-stream", "an event speaks of a block that has not begun")
    block: dict[str, Any] = blocks[index]
    return block


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise RecordError("broken-stream", f"an event has no {name}")
    return value
