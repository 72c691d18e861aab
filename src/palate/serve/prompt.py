"""The prompt of a request as token ids, or why it is refused.

It may take long, and is for a thread beside the event loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from palate.records import Message
from palate.serve.models import Served
from palate.serve.refusal import Refused
from palate.serve.request import Wanted
from palate.tokens.render import Unusable
from palate.tokens.templates import TemplateRefused


def prompt_of(served: Served, wanted: Wanted) -> list[int]:
    """The ids of the messages; raises `Refused` for what cannot be answered."""
    _refuse_endless(served, wanted)
    _refuse_controls(served, wanted)
    try:
        ids = served.renderer.prompt(wanted.messages, wanted.tools)
    except Unusable as error:
        param = "tools" if error.reason == "template-ignores-tools" else "messages"
        raise Refused(400, str(error), param=param, code=error.reason) from error
    except TemplateRefused as error:
        raise Refused(400, str(error), param="messages", code="template-refused") from error
    if not ids:
        raise Refused(
            400,
            "the messages have no token to answer to: say something",
            param="messages",
            code="empty_prompt",
        )
    return ids


def _refuse_endless(served: Served, wanted: Wanted) -> None:
    """What cannot fit into the context however it is encoded is not even rendered."""
    limit, count = served.lane.limit, len(wanted.messages)
    size = sum(len(message.content) for message in wanted.messages)
    if count > limit or size > limit * served.longest:
        raise Refused(
            400,
            f"the model's context is {limit} tokens, and {count} messages of {size} characters "
            "cannot fit",
            param="messages",
            code="context_length_exceeded",
        )


def _refuse_controls(served: Served, wanted: Wanted) -> None:
    """What a client typed must not become a control token."""
    for index, message in enumerate(wanted.messages):
        _refuse_control(served, _texts_of(message), "a message holds", f"messages[{index}]")
    for index, tool in enumerate(wanted.tools):
        _refuse_control(served, _texts(tool), "a tool holds", f"tools[{index}]")


def _refuse_control(served: Served, texts: Iterator[str], holds: str, param: str) -> None:
    for text in texts:
        typed = next((one for one in served.renderer.special if one in text), None)
        if typed is not None:
            raise Refused(
                400,
                f"{holds} the model's control token {typed}: take it out",
                param=param,
                code="control_token",
            )


def _texts_of(message: Message) -> Iterator[str]:
    yield message.content
    yield from (text for text in (message.name, message.tool_call_id) if text)
    for call in message.tool_calls:
        yield from _texts(call)
        function = call.get("function")
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):  # templates get them decoded: escapes become characters
            try:
                yield from _texts(json.loads(arguments))
            except (ValueError, RecursionError):
                continue


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a JSON value, names of fields too."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
