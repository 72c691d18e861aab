"""LiteLLM's `StandardLoggingPayload`, as its callbacks and buckets write it.

`messages` and `response` are as the proxy saw them. What LiteLLM knows about keys, teams and
addresses is left out of the tags; `requester_metadata` and `spend_logs_metadata`, which are the
product's own, become tags.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.exchange import exchange, parse_replies, parse_request, response_ids
from palate.ingest.feedback import FEEDBACK_FIELDS, choice_labels, thumbs_about
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import decoded, need
from palate.ingest.origin import named, provider_id, time_in, user_in
from palate.records import Example, RecordError

FIELDS = ("call_type", "messages", "response", "status", "trace_id", "end_user", "startTime")
_OURS = ("requester_metadata", "spend_logs_metadata")
_REDACTED = "redacted-by-litellm"  # with `turn_off_message_logging`, in place of all words
_TALK = ("completion", "responses", "messages", "generate_content", "query")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a logging payload of the proxy."""
    return "call_type" in row and bool(row.keys() & {"messages", "response"})


def parse(row: dict[str, Any]) -> list[Example]:
    """One example a call; calls that failed, and that were none of a chat model, are refused."""
    if row.get("status") == "failure" or row.get("error_str"):
        said = row.get("error_str") or row.get("error_information")
        raise RecordError("provider-error", f"the call failed: {said!r:.80}")
    call = row.get("call_type")
    if isinstance(call, str) and not any(word in call for word in _TALK):
        raise RecordError("no-model-call", f"the row is a call of type {call:.40}")
    parameters = decoded(row.get("model_parameters"))
    tools = parameters.get("tools") if isinstance(parameters, dict) else None
    asked = decoded(need(row, "messages"))
    if not isinstance(asked, dict):
        asked = {"messages": asked}
    request = parse_request({"tools": tools, **asked}, "messages")
    replies = parse_replies(need(row, "response"))
    if any(turn.content == _REDACTED for reply in replies for turn in reply.messages):
        raise RecordError("empty-answer", "LiteLLM was told not to log the words")
    thumbs = [thumb for home in _metadata(row) for thumb in thumbs_about(home)]
    labels = choice_labels([{} for _ in replies], thumbs)
    rated = [replace(reply, label=label) for reply, label in zip(replies, labels, strict=True)]
    model = row.get("model")
    return [exchange(request, rated, _tags(row), model if isinstance(model, str) else None)]


def time_of(row: dict[str, Any]) -> str | None:
    """When the call began."""
    return time_in(row, ("startTime", "endTime"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id of the response, which is LiteLLM's own too unless it made one up."""
    ids = response_ids(row.get("response")) or provider_id(row.get("id"))
    own = named("litellm:call/", row.get("litellm_call_id"))
    return (*ids, *own)


def user_of(row: dict[str, Any]) -> str | None:
    """The end user."""
    return user_in(row, ("end_user",))


def _metadata(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The product's own metadata."""
    metadata = decoded(row.get("metadata"))
    homes = [decoded(metadata.get(name)) for name in _OURS] if isinstance(metadata, dict) else []
    return [home for home in homes if isinstance(home, dict)]


def _tags(row: dict[str, Any]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for home in _metadata(row):
        tags |= tags_of(home, FEEDBACK_FIELDS)
    wanted = {name: row.get(name) for name in ("session_id", "trace_id")}
    return tags | tags_of(wanted)


FORMAT = Format(
    "litellm",
    "LiteLLM's standard logging payload",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs (`feedback` in the product's own metadata)",
    names="the provider's id of the response, `litellm:call/…`",
)
