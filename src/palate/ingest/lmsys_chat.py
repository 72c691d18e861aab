"""LMSYS-Chat-1M and WildChat: conversations with a model, without a word on how good they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.feedback import refuse_thumbs
from palate.ingest.fields import single, split_demonstration, tags_of
from palate.ingest.format import Format
from palate.ingest.messages import need, parse_messages
from palate.ingest.origin import named, time_in
from palate.records import Example

FIELDS = ("conversation_id", "model", "conversation", "language")
_IDS = ("conversation_id", "conversation_hash")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a whole conversation under the names of those sets."""
    return "conversation" in row and "model" in row and any(name in row for name in _IDS)


def parse(row: dict[str, Any]) -> list[Example]:
    """A demonstration: every reply of the conversation is learned."""
    refuse_thumbs(row)
    turns = parse_messages(need(row, "conversation"), "conversation")
    key = next((row[name] for name in _IDS if row.get(name)), None)
    wanted = {name: row.get(name) for name in ("language", "redacted", "toxic")}
    made = single(*split_demonstration(turns), tags=tags_of(wanted | {"conversation_id": key}))
    model = row.get("model")
    source = model if isinstance(model, str) else None
    return [replace(made, completions=(replace(made.completions[0], source=source),))]


def time_of(row: dict[str, Any]) -> str | None:
    """When the conversation ended, where the set tells it."""
    return time_in(row, ("tstamp", "timestamp"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The conversation's id."""
    return next((named("lmsys:conversation/", row[n]) for n in _IDS if row.get(n)), ())


FORMAT = Format(
    "lmsys-chat",
    "LMSYS-Chat-1M and WildChat conversations",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    names="`lmsys:conversation/…`",
)
