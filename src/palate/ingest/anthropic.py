"""Anthropic messages as products log them: a request with its response, one a line.

Read as `{request, response}`, `{body, response: {body}}`, `{…request, response}`, and both merged
into one object, where `content` is the response's. The system prompt may be text or blocks; tool
calls and results become what chat templates take (see `palate.ingest.dialects`). Where the request
began the answer itself, its last turn and the response are one answer. Thumbs are read as in
`palate.ingest.feedback`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.exchange import (
    Request,
    exchange,
    parse_replies,
    parse_request,
    refuse_errors,
    refuse_status,
    response_ids,
)
from palate.ingest.feedback import FEEDBACK_FIELDS, agreed, read_thumb, thumbs_about
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import decoded, need
from palate.ingest.origin import time_in, user_in
from palate.records import Completion, Example, Message, RecordError

FIELDS = ("system", "messages", "content", "stop_reason", "request", "response", "feedback")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row holds a response of the messages API, or its error, beside a request."""
    response, scopes = _response(row), _scopes(row)
    asked = any("messages" in scope for scope in scopes)
    if asked and any(s.get("type") == "error" and s.get("error") for s in scopes):
        return True
    if response is None or "choices" in response:
        return False
    answered = response.get("type") == "message" and isinstance(response.get("content"), list)
    return asked and (answered or "stop_reason" in response)


def parse(row: dict[str, Any]) -> list[Example]:
    """One example a row: system prompt and messages, and the one answer."""
    scopes = _scopes(row)
    refuse_errors(*scopes)
    for scope in scopes:
        refuse_status(scope.get("status_code"))
    asked = next((scope for scope in scopes if scope.get("messages") is not None), row)
    need(asked, "messages")
    request = parse_request({n: asked.get(n) for n in ("system", "messages", "tools", "model")})
    response = _response(row)
    if response is None:
        raise RecordError("missing-field", "the row has no response")
    answer = {name: response.get(name) for name in ("content", "stop_reason", "model")}
    (completion,) = parse_replies({"type": "message", **answer})
    request, completion = _prefilled(request, completion)
    thumb = agreed(read_thumb(value) for scope in scopes for value in thumbs_about(scope))
    tags: dict[str, str] = {}
    for scope in reversed(scopes):
        tags |= tags_of(scope.get("metadata"), FEEDBACK_FIELDS)
    return [exchange(request, [replace(completion, label=thumb)], tags)]


def time_of(row: dict[str, Any]) -> str | None:
    """When the row was written, which the API itself does not tell."""
    return next((at for scope in _scopes(row) if (at := time_in(scope)) is not None), None)


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The response's id."""
    return response_ids({"usage": None, **(_response(row) or {})})


def user_of(row: dict[str, Any]) -> str | None:
    """The row's user, or the one whom the request's metadata names."""
    homes = [home for scope in _scopes(row) for home in (scope, decoded(scope.get("metadata")))]
    found = (user_in(home) for home in homes if isinstance(home, dict))
    return next((user for user in found if user is not None), None)


def _scopes(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row and what it wraps, outermost first."""
    scopes = [row]
    for name in ("request", "params", "body", "response"):
        inner = decoded(row.get(name))
        if isinstance(inner, dict):
            scopes.append(inner)
            body = decoded(inner.get("body"))
            if isinstance(body, dict):
                scopes.append(body)
    return scopes


def _response(row: dict[str, Any]) -> dict[str, Any] | None:
    """The object that holds the answer's content."""
    return next((s for s in reversed(_scopes(row)) if s.get("content") is not None), None)


def _prefilled(request: Request, answer: Completion) -> tuple[Request, Completion]:
    """The request without the beginning of the answer that it ended with, and the whole answer."""
    if not request.turns or request.turns[-1].role != "assistant" or not answer.messages:
        return request, answer
    begun, first = request.turns[-1], answer.messages[0]
    whole = Message("assistant", begun.content + first.content, first.tool_calls)
    said = (whole, *answer.messages[1:])
    return replace(request, turns=request.turns[:-1]), replace(answer, messages=said)


FORMAT = Format(
    "anthropic",
    "Anthropic messages log, request with response, thumbs in feedback",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs",
    names="`anthropic:msg_…`, the response's id",
)
