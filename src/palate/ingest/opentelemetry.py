"""OpenTelemetry's conventions for generative AI: spans and events of model calls.

Attributes may be flattened (``gen_ai.input.messages``) or nested, messages a list or JSON text, in
parts. So are the older flattened form, ``gen_ai.prompt.0.content``, and batches as the collector
writes them (`palate.ingest.otlp`). An evaluation, on the span, among its events or as an event of
its own, is a signal under its name.
"""

from __future__ import annotations

from typing import Any

from palate.ingest.attributes import (
    attributes_of,
    collection,
    lookup,
    refuse_failed,
    span_id,
    trace_id,
)
from palate.ingest.dialects import call, tool_definitions
from palate.ingest.exchange import FINISH_REASONS, Request, exchange
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, decoded, kind, parse_content, parse_message
from palate.ingest.opinions import Judgement, settled, split_judgements
from palate.ingest.origin import provider_id, time_in, user_in
from palate.records import Completion, Example, Message, RecordError, Signal, canonical_json

FIELDS = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.request.model",
    "gen_ai.response.id",
    "gen_ai.conversation.id",
    "gen_ai.evaluation.name",
)
_EVALUATION = "gen_ai.evaluation"


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row has attributes of the conventions."""
    scope = attributes_of(row)
    return "gen_ai" in scope or any(key.startswith("gen_ai.") for key in scope)


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """A call with the signals of its evaluations, or the signals of an evaluation alone."""
    scope = attributes_of(row)
    asked, answered = _side(scope, "input", "prompt"), _side(scope, "output", "completion")
    judgements = _evaluations(row, scope)
    if asked is None and answered is None:
        if judgements and not ids_of(row):
            raise RecordError("missing-field", "the evaluation names no response and no span")
        if judgements:
            return [judgement.signal(ids_of(row)) for judgement in judgements]
        operation = lookup(scope, "gen_ai.operation.name")
        raise RecordError("no-model-call", f"the span has no messages ({operation!s:.40})")
    refuse_failed(row)
    if lookup(scope, "error.type") is not None:
        error = lookup(scope, "error.type")
        raise RecordError("provider-error", f"the call failed: {error!r:.80}")
    system = decoded(lookup(scope, "gen_ai.system_instructions"))
    turns: list[Message] = []
    if system:
        turns += _turns([{"role": "system", "parts": _parts(system)}], "system_instructions")
    turns += _turns(asked, "input.messages")
    request = Request(tuple(turns), tool_definitions(lookup(scope, "gen_ai.tool.definitions")))
    replies = _replies(answered)
    model = lookup(scope, "gen_ai.response.model") or lookup(scope, "gen_ai.request.model")
    source = model if isinstance(model, str) else None
    signals, labels = split_judgements(judgements, ids_of(row))
    return settled(exchange(request, replies, _tags(row, scope) | labels, source), signals)


def time_of(row: dict[str, Any]) -> str | None:
    """When the span began, or the event was."""
    return time_in(row, ("start_time", "startTime", "timestamp", "time"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id of the response, and the span's."""
    return (*provider_id(lookup(attributes_of(row), "gen_ai.response.id")), *span_id(row))


def user_of(row: dict[str, Any]) -> str | None:
    """The end user, where the span carries one."""
    scope = attributes_of(row)
    return user_in({"user.id": lookup(scope, "user.id"), "enduser.id": lookup(scope, "enduser.id")})


def _side(scope: dict[str, Any], new: str, old: str) -> Any:
    """The messages of one side, in the present form or the older one; None if there are none."""
    said = decoded(lookup(scope, f"gen_ai.{new}.messages"))
    if said is not None:
        return said
    older = collection(scope, f"gen_ai.{old}")
    return older or None


def _parts(system: object) -> object:
    """System instructions: parts, or messages that hold them."""
    if isinstance(system, list) and all(isinstance(s, dict) and "parts" in s for s in system):
        return [part for message in system for part in message["parts"] or ()]
    return system


def _turns(raw: object, where: str) -> list[Message]:
    if not isinstance(raw, list):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not a list of messages")
    return [turn for i, item in enumerate(raw) for turn in _message(item, f"{where}[{i}]")]


def _replies(raw: object) -> list[Completion]:
    if not isinstance(raw, list) or not raw:
        raise RecordError("missing-field", "there are no output messages")
    replies = []
    for index, item in enumerate(raw):
        said = check_answer(_message(item, f"output.messages[{index}]"), "output.messages")
        reason = item.get("finish_reason")
        reason = FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else None
        replies.append(Completion(said, finish_reason=reason))
    return replies


def _message(raw: object, where: str) -> tuple[Message, ...]:
    """A message of parts as turns: each tool's response is one of its own."""
    if not isinstance(raw, dict) or raw.get("parts") is None:
        return (parse_message(raw, where),)
    parts = raw["parts"] if isinstance(raw["parts"], list) else [raw["parts"]]
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for part in parts:
        named = part.get("type") if isinstance(part, dict) else kind(part)
        if isinstance(part, str):
            text.append(part)
        elif named == "text":
            text.append(parse_content(part.get("content", part.get("text")), where))
        elif named == "tool_call":
            calls.append(call(part.get("name"), part.get("arguments"), part.get("id"), where))
        elif named == "tool_call_response":
            results.append(_result(part, where))
        elif named != "reasoning":
            raise RecordError("unsupported-content", f"'{where}' holds {named!s:.40}, not text")
    said = {"role": raw.get("role"), "content": "\n".join(text), "tool_calls": calls or None}
    spoken = text or calls or not results
    return (*results, parse_message(said, where)) if spoken else tuple(results)


def _result(part: dict[str, Any], where: str) -> Message:
    said, key = part.get("response", part.get("result")), part.get("id")
    text = canonical_json(said) if isinstance(said, dict) else parse_content(said, where)
    return Message("tool", text, tool_call_id=key if isinstance(key, str) else None)


def _tags(row: dict[str, Any], scope: dict[str, Any]) -> dict[str, str]:
    conversation = "gen_ai.conversation.id"
    return tags_of({conversation: lookup(scope, conversation), "trace_id": trace_id(row)})


def _evaluations(row: dict[str, Any], scope: dict[str, Any]) -> list[Judgement]:
    """What the span's own attributes and its events say of its answer."""
    events = decoded(row.get("events"))
    events = events if isinstance(events, list) else []
    homes = [scope, *(attributes_of(event) for event in events if isinstance(event, dict))]
    return [
        Judgement(
            name,
            lookup(home, f"{_EVALUATION}.score.value"),
            lookup(home, f"{_EVALUATION}.score.label"),
            comment=lookup(home, f"{_EVALUATION}.explanation"),
        )
        for home in homes
        if isinstance(name := lookup(home, f"{_EVALUATION}.name"), str)
    ]


FORMAT = Format(
    "opentelemetry",
    "OpenTelemetry GenAI spans and events, also as the collector's OTLP files",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs and scores by name (evaluations)",
    names="the provider's id of the response, `otel:span/…`",
)
