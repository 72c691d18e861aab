"""Helicone's export: `{request_id, request_body, response_body, feedback_rating, scores, …}`.

Bodies are those of the provider, as objects or as JSON text. The rating is a thumb; scores are
signals under their names. Properties become tags, `Helicone-Session-Id` as the conversation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.exchange import (
    exchange,
    parse_replies,
    parse_request,
    refuse_status,
    response_ids,
)
from palate.ingest.feedback import read_thumb
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import decoded, need
from palate.ingest.opinions import opinion, settled
from palate.ingest.origin import named, time_in, user_in
from palate.records import Example, RecordError, Signal

FIELDS = (
    "request_id",
    "request_body",
    "response_body",
    "request_model",
    "request_user_id",
    "feedback_rating",
    "scores",
)
_SESSION = "Helicone-Session-Id"


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row has the bodies of both sides under Helicone's names."""
    return "request_id" in row and "request_body" in row and "response_body" in row


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """The call with its thumb, and a signal for each named score."""
    refuse_status(row.get("response_status"))
    request = parse_request(need(row, "request_body"), "request_body")
    replies = parse_replies(need(row, "response_body"), "response_body")
    rating = row.get("feedback_rating")
    if rating is None and isinstance(row.get("feedback"), dict):
        rating = row["feedback"].get("rating")
    thumb = read_thumb(rating)
    if thumb is not None and len(replies) > 1:
        raise RecordError("ambiguous-feedback", f"one rating for {len(replies)} answers")
    replies = [replace(reply, label=thumb) for reply in replies]
    made = exchange(request, replies, _tags(row), row.get("response_model") or _model(row))
    return settled(made, _scores(row))


def time_of(row: dict[str, Any]) -> str | None:
    """When the request was made."""
    return time_in(row, ("request_created_at", "response_created_at", "created_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id of the response, and Helicone's of the request."""
    ids = response_ids(row.get("response_body"))
    return (*ids, *named("helicone:request/", row.get("request_id")))


def user_of(row: dict[str, Any]) -> str | None:
    """The user that the product named in its header."""
    return user_in(row, ("request_user_id", "helicone_user"))


def _model(row: dict[str, Any]) -> str | None:
    model = row.get("request_model")
    return model if isinstance(model, str) else None


def _tags(row: dict[str, Any]) -> dict[str, str]:
    properties = tags_of(row.get("properties")) | tags_of(row.get("request_properties"))
    session = properties.pop(_SESSION, None)
    return properties | ({"session_id": session} if session else {})


def _scores(row: dict[str, Any]) -> list[Signal]:
    scores = decoded(row.get("scores"))
    if not isinstance(scores, dict):
        return []
    out = []
    for name, said in scores.items():
        value = said.get("value") if isinstance(said, dict) else said
        boolean = isinstance(said, dict) and said.get("valueType") == "boolean"
        if value is not None:
            out.append(opinion(name, bool(value) if boolean else value, ids_of(row)))
    return out


FORMAT = Format(
    "helicone",
    "Helicone's export of requests, with rating and scores",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs (`feedback_rating`), scores by name (`scores`)",
    names="the provider's id of the response, `helicone:request/…`",
)
