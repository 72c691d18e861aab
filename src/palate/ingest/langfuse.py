"""Langfuse: generations, traces and scores, as its API, its site and its blob export write them.

Names are read in both spellings, `traceId` and `trace_id`. A score speaks about its observation,
or else about its trace. Of the scores NUMERIC and BOOLEAN are scores or thumbs by their name,
CATEGORICAL only if its word is a thumb, TEXT says nothing that can be learned from, and a
CORRECTION is the answer as it should have been. A trace's row is an interaction of its own where
its input and output are a conversation: import traces or generations, not both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.dialects import is_message, parse_turns, tool_definitions
from palate.ingest.exchange import exchange, parse_replies, parse_request, response_ids
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, decoded, need, need_text
from palate.ingest.opinions import opinion
from palate.ingest.origin import named, time_in, user_in
from palate.records import Example, Message, RecordError, Signal

FIELDS = ("traceId", "type", "input", "output", "model", "sessionId", "name", "value", "dataType")
_TYPES = {
    "GENERATION",
    "SPAN",
    "EVENT",
    "AGENT",
    "TOOL",
    "CHAIN",
    "RETRIEVER",
    "EVALUATOR",
    "EMBEDDING",
    "GUARDRAIL",
}
_SCORES = {"NUMERIC", "CATEGORICAL", "BOOLEAN", "CORRECTION", "TEXT"}
_TRACE = {"release", "public", "bookmarked", "htmlPath", "totalCost"}


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is an observation, a score or a trace."""
    if _is_score(row):
        return isinstance(row.get("name"), str)
    kind = row.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return _get(row, "traceId") is not None
    return _is_trace(row)


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """A generation, a trace that is a conversation, or what a score says."""
    if _is_score(row):
        return [_score(row)]
    kind = row.get("type")
    if kind != "GENERATION" and not _is_trace(row):
        raise RecordError("no-model-call", f"the observation is of type {kind!s:.40}")
    if row.get("level") == "ERROR":
        said = _get(row, "statusMessage")
        raise RecordError("provider-error", f"the generation failed: {said!r:.80}")
    asked, tools = _without_tools(decoded(need(row, "input")))
    request = parse_request(asked, "input")
    request = replace(request, tools=request.tools or tool_definitions(tools))
    replies = parse_replies(need(row, "output"), "output")
    model = next((m for n in ("model", "providedModelName") if (m := _get(row, n))), None)
    source = model if isinstance(model, str) else None
    return [exchange(request, replies, _tags(row), source)]


def time_of(row: dict[str, Any]) -> str | None:
    """When it began, or the score was given."""
    return time_in(row, ("startTime", "start_time", "timestamp", "createdAt", "created_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id where the output is its response, and the observation's or the trace's.

    A generation is not named by its trace, of which it may be one call of several.
    """
    if _is_score(row):
        return ()
    space = "langfuse:trace/" if _is_trace(row) else "langfuse:observation/"
    return (*response_ids(row.get("output")), *named(space, row.get("id")))


def user_of(row: dict[str, Any]) -> str | None:
    """The trace's user, where the row carries it."""
    return None if _is_score(row) else user_in(row, ("userId", "user_id"))


def _get(row: dict[str, Any], name: str) -> Any:
    """The field, or the same in snake case."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    value = row.get(name)
    return row.get(snake) if value is None else value


def _is_score(row: dict[str, Any]) -> bool:
    kind = _get(row, "dataType")
    return isinstance(kind, str) and kind in _SCORES and "input" not in row


def _is_trace(row: dict[str, Any]) -> bool:
    return {"input", "output", "timestamp"} <= row.keys() and bool(_TRACE & row.keys())


def _tags(row: dict[str, Any]) -> dict[str, str]:
    listed = row.get("tags")
    more = {
        "name": row.get("name"),
        "session_id": _get(row, "sessionId"),
        "trace_id": _get(row, "traceId") or row.get("id"),
        "environment": row.get("environment"),
    }
    if isinstance(listed, list):
        more["tags"] = ", ".join(tag for tag in listed if isinstance(tag, str))
    return tags_of(row.get("metadata")) | tags_of(more)


def _without_tools(asked: object) -> tuple[object, list[dict[str, Any]]]:
    """The messages, and the tools that Langfuse's handler for LangChain writes after them.

    There each definition is the content of a message of the role `tool`.
    """
    if not isinstance(asked, list):
        return asked, []
    tools = [message["content"] for message in asked if _is_definition(message)]
    return [message for message in asked if not _is_definition(message)], tools


def _is_definition(message: object) -> bool:
    if not isinstance(message, dict) or message.get("role") != "tool":
        return False
    said = message.get("content")
    return isinstance(said, dict) and ("function" in said or "name" in said)


def _score(row: dict[str, Any]) -> Signal:
    about = named("langfuse:observation/", _get(row, "observationId"))
    about = about or named("langfuse:trace/", _get(row, "traceId"))
    if not about:
        raise RecordError("unread-feedback", "the score is about no observation and no trace")
    kind, name = _get(row, "dataType"), need_text(row, "name")
    # "API" and "ANNOTATION" stand for many people; an evaluator is one voice.
    evaluator = row.get("source") if row.get("source") == "EVAL" else None
    author, comment = _get(row, "authorUserId") or evaluator, row.get("comment")
    by = author if isinstance(author, str) else None
    comment = comment if isinstance(comment, str) else None
    if kind == "CORRECTION":
        edit = _edited(_get(row, "longStringValue") or _get(row, "stringValue"))
        return Signal(about, "edit", edit=edit, by=by, comment=comment)
    value = row.get("value")
    if kind == "TEXT":
        raise RecordError("unread-feedback", f"the score '{name:.40}' is a text")
    if kind == "CATEGORICAL":
        value = _get(row, "stringValue") or (value if isinstance(value, str) else None)
    if kind == "BOOLEAN" and value in (0, 1):
        value = bool(value)
    return opinion(name, value, about, by, comment)


def _edited(value: object) -> tuple[Message, ...]:
    """The corrected answer: text, or JSON text of a message or of several."""
    said = decoded(value)
    if is_message(said) or (isinstance(said, list) and said and all(map(is_message, said))):
        return check_answer(parse_turns(said, "correction"), "correction")
    if not isinstance(value, str) or not value.strip():
        raise RecordError("empty-answer", "the correction is empty")
    return (Message("assistant", value),)


FORMAT = Format(
    "langfuse",
    "Langfuse's generations and traces, and its scores about them",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs, scores by name, edits (CORRECTION)",
    names="the provider's id of the response, `langfuse:observation/…`, `langfuse:trace/…`",
)
