"""OpenAI's preference fine-tuning file (Together and Fireworks read it too)."""

from __future__ import annotations

from typing import Any

from palate.ingest.fields import pair, parse_tools, tags_of
from palate.ingest.format import Format
from palate.ingest.messages import decoded, kind, need, parse_answer, parse_messages
from palate.ingest.origin import time_in, user_in
from palate.records import Example, RecordError

FIELDS = ("input", "preferred_output", "non_preferred_output")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row names a preferred and a non-preferred output."""
    return row.get("preferred_output") is not None and "non_preferred_output" in row


def parse(row: dict[str, Any]) -> list[Example]:
    """`{input: {messages, tools}, preferred_output, non_preferred_output}` as one pair."""
    request = decoded(need(row, "input"))
    if not isinstance(request, dict):
        raise RecordError("wrong-type", f"'input' is {kind(request)}, not an object with messages")
    return [
        pair(
            parse_messages(need(request, "messages"), "input.messages"),
            parse_answer(need(row, "preferred_output"), "preferred_output"),
            parse_answer(need(row, "non_preferred_output"), "non_preferred_output"),
            tools=parse_tools(request.get("tools")),
            tags=tags_of(row.get("metadata")),
        )
    ]


FORMAT = Format(
    "openai-preference",
    "OpenAI preference fine-tuning file",
    FIELDS,
    sniff,
    parse,
    time_in,
    user=user_in,
    signals="pairs",
)
