"""Plain text to pretrain on: rows `{text}`, and text files, each of which is one document."""

from __future__ import annotations

from typing import Any

from palate.ingest.fields import column_tags
from palate.ingest.format import Format
from palate.ingest.messages import kind
from palate.ingest.origin import time_in
from palate.records import Completion, Example, Message, RecordError

FIELDS = ("text",)
# Fields that say that a row is more than a document.
_MORE = {"prompt", "messages", "completion", "label", "chosen", "rejected", "conversations"}


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a text and nothing that another format would read."""
    has = {name for name, value in row.items() if value is not None}
    return "text" in has and not has & _MORE


def parse(row: dict[str, Any]) -> list[Example]:
    """One document: an example without a prompt."""
    text = row.get("text")
    if not isinstance(text, str):
        raise RecordError("wrong-type", f"'text' is {kind(text)}, not a string")
    if not text.strip():
        raise RecordError("empty-answer", "the text is empty")
    document = Completion((Message("assistant", text),))
    return [Example((), (document,), tags=column_tags(row, FIELDS))]


FORMAT = Format(
    "text",
    "Plain text to pretrain on: rows with a text, or .txt and .md files",
    FIELDS,
    sniff,
    parse,
    time_in,
)
