"""OpenAI chat completions as products log them: request and response, with thumbs.

Read as one line each: request and response merged (`{model, messages, choices, …}`),
`{request, response}`, `{messages, response}`, and the batch form `{body, response: {body}}`; in
the same wrappings calls of the responses API, `{input, instructions}` and `{output}`; also a whole
conversation with its thumb, `{messages, feedback}`, where the thumb speaks about the last reply.
`palate.ingest.feedback` says which thumbs are read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.exchange import (
    exchange,
    parse_replies,
    parse_request,
    refuse_errors,
    refuse_status,
    response_ids,
)
from palate.ingest.feedback import FEEDBACK_FIELDS, choice_labels, thumbs_about
from palate.ingest.fields import parse_tools, tags_of
from palate.ingest.format import Format
from palate.ingest.messages import (
    check_answer,
    check_prompt,
    decoded,
    kind,
    need,
    parse_message,
    parse_messages,
)
from palate.ingest.origin import time_in, user_in
from palate.records import Completion, Example, RecordError

FIELDS = ("messages", "choices", "request", "response", "body", "feedback", "model", "metadata")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row looks like a request with its response, or a rated conversation."""
    has = {name for name, value in row.items() if value is not None}
    if "response" in has and has & {"request", "body", "messages"}:
        return True
    if "messages" not in has or has & {"chosen", "rejected"}:
        return False
    return "choices" in has or bool(thumbs_about(row))


def parse(row: dict[str, Any]) -> list[Example]:
    """One example per row: the request's messages, and one completion per choice."""
    scopes = _scopes(row)
    request = next((scope for scope in scopes if scope.get("messages") is not None), row)
    response = next((scope for scope in scopes if scope.get("choices") is not None), None)
    refuse_errors(*scopes)
    for scope in scopes:
        refuse_status(scope.get("status_code"))
    answered = next((scope for scope in scopes[1:] if _is_response(scope)), None)
    if answered is not None and request.get("messages") is None:
        return [_responses_call(scopes, answered)]
    messages = parse_messages(need(request, "messages"), "messages")
    if response is None:
        if any(name in row for name in ("response", "choices")):
            raise RecordError("missing-field", "the response has no choices")
        prompt, choices = messages[:-1], [{"message": _last(request)}]
    else:
        prompt, choices = messages, _choices(response)
    about_row = [thumb for scope in scopes for thumb in thumbs_about(scope)]
    labels = choice_labels(choices, about_row)
    model = next((s["model"] for s in reversed(scopes) if isinstance(s.get("model"), str)), None)
    return [
        Example(
            prompt=check_prompt(prompt),
            completions=tuple(
                _completion(choice, label, model, f"choices[{index}]")
                for index, (choice, label) in enumerate(zip(choices, labels, strict=True))
            ),
            tools=parse_tools(request.get("tools")),
            tags=_tags(scopes),
        )
    ]


def _responses_call(scopes: list[dict[str, Any]], response: dict[str, Any]) -> Example:
    """A request to OpenAI's responses API, and the answer among its items."""
    asked = next((scope for scope in scopes if scope.get("input") is not None), None)
    if asked is None:
        raise RecordError("missing-field", "the request has neither messages nor input")
    if asked.get("previous_response_id"):
        raise RecordError("missing-field", "what was said before is in another row")
    replies = parse_replies(response)
    thumbs = [thumb for scope in scopes for thumb in thumbs_about(scope)]
    labels = choice_labels([{} for _ in replies], thumbs)
    rated = [replace(reply, label=label) for reply, label in zip(replies, labels, strict=True)]
    return exchange(parse_request(asked), rated, _tags(scopes))


def _is_response(scope: dict[str, Any]) -> bool:
    return isinstance(scope.get("output"), list) and scope.get("choices") is None


def _tags(scopes: list[dict[str, Any]]) -> dict[str, str]:
    """The metadata of all scopes, of which the outermost counts."""
    tags: dict[str, str] = {}
    for scope in reversed(scopes):
        if (metadata := scope.get("metadata")) is not None:
            tags |= tags_of(metadata, FEEDBACK_FIELDS)
    return tags


def time_of(row: dict[str, Any]) -> str | None:
    """When the answer was made, as ISO 8601 in UTC where the log gives seconds."""
    return next((at for s in reversed(_scopes(row)) if (at := time_in(s)) is not None), None)


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The response's id, as the provider gave it."""
    scopes = reversed(_scopes(row))
    answered = (s for s in scopes if s.get("choices") is not None or _is_response(s))
    return next(map(response_ids, answered), ())


def user_of(row: dict[str, Any]) -> str | None:
    """The row's user, the request's, or the one whom either's metadata names."""
    for scope in _scopes(row):
        for home in (scope, decoded(scope.get("metadata"))):
            if isinstance(home, dict) and (user := user_in(home)) is not None:
                return user
    return None


def _scopes(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row and the objects it wraps, outermost first: request before response."""
    scopes = [row]
    for name in ("request", "body", "response"):
        inner = row.get(name)
        if isinstance(inner, str):
            inner = decoded(inner)
        if isinstance(inner, dict):
            scopes.append(inner)
            if isinstance(body := decoded(inner.get("body")), dict):
                scopes.append(body)
    return scopes


def _last(request: dict[str, Any]) -> dict[str, Any]:
    messages = decoded(request["messages"])
    if not messages:
        raise RecordError("empty-prompt", "'messages' is empty")
    last: dict[str, Any] = messages[-1]
    return last


def _choices(response: dict[str, Any]) -> list[dict[str, Any]]:
    choices = decoded(response["choices"])
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise RecordError("wrong-type", f"'choices' is {kind(choices)}, not a list of objects")
    if not choices:
        raise RecordError("empty-answer", "'choices' is an empty list")
    return choices


def _completion(
    choice: dict[str, Any], label: bool | None, model: str | None, where: str
) -> Completion:
    refuse_errors(choice)
    message = parse_message(need(choice, "message"), f"{where}.message")
    reason = choice.get("finish_reason")
    if reason is not None and not isinstance(reason, str):
        raise RecordError("wrong-type", f"the finish_reason of '{where}' is {kind(reason)}")
    return Completion(
        messages=check_answer((message,), where), source=model, label=label, finish_reason=reason
    )


FORMAT = Format(
    "openai-chat",
    "OpenAI chat completions log, request with response, thumbs in feedback",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs (of the row, or of each choice)",
    names="`openai:chatcmpl-…`, the response's id; `response:…` of other providers",
)
