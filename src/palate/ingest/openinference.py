"""OpenInference: spans of model calls as Phoenix and Arize export them, and annotations.

Attributes may be flattened (``llm.input_messages.0.message.role``), nested, or the columns of a
data frame (``attributes.llm.input_messages``). Annotations and evaluations of a span are signals
under their names, and so are Phoenix's own rows of annotations, `{span_id, name, result}`. A label
that is no thumb becomes a tag. Spans of another kind than LLM are no calls of a model.
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
from palate.ingest.exchange import (
    FINISH_REASONS,
    Request,
    exchange,
    parse_replies,
    parse_request,
    response_ids,
)
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, decoded, need_text, parse_message
from palate.ingest.opinions import Judgement, settled, split_judgements
from palate.ingest.origin import named, time_in, user_in
from palate.records import Completion, Example, Message, RecordError, Signal

FIELDS = (
    "llm.input_messages",
    "llm.output_messages",
    "llm.model_name",
    "openinference.span.kind",
    "session.id",
    "annotations",
    "span_id",
    "annotator_kind",
    "result",
)
_OPINIONS = {"annotations": "annotation", "evaluations": "evaluation"}


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a span with OpenInference's attributes, or an annotation of one."""
    if _is_annotation(row):
        return True
    scope = attributes_of(row)
    wanted = ("openinference", "llm.input_messages", "llm.output_messages")
    if any(key.startswith(wanted) for key in scope):
        return True
    nested = ("openinference.span.kind", "llm.input_messages", "llm.output_messages")
    return any(lookup(scope, name) is not None for name in nested)


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """A call with the signals of its annotations, or the signal of an annotation's row."""
    if _is_annotation(row):
        return [_annotation(row)]
    scope = attributes_of(row)
    kind = lookup(scope, "openinference.span.kind") or row.get("span_kind")
    if isinstance(kind, str) and kind.upper() != "LLM":
        raise RecordError("no-model-call", f"the span is of kind {kind:.40}")
    refuse_failed(row)
    asked = tuple(_message(m, f"input[{i}]") for i, m in _enumerated(scope, "input"))
    if asked:
        tools = [lookup(tool, "tool.json_schema") for tool in collection(scope, "llm.tools")]
        request = Request(asked, tool_definitions([decoded(tool) for tool in tools]))
    else:
        request = parse_request(_raw(scope, "input.value"), "input.value")
    answers = tuple(_message(m, f"output[{i}]") for i, m in _enumerated(scope, "output"))
    if answers:
        reason = lookup(scope, "llm.finish_reason")
        reason = FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else None
        said = [check_answer((one,), "output") for one in answers]
        replies = [Completion(turns, finish_reason=reason) for turns in said]
    else:
        replies = parse_replies(_raw(scope, "output.value"), "output.value")
    model = lookup(scope, "llm.model_name")
    signals, labels = split_judgements(_judgements(scope), ids_of(row))
    source = model if isinstance(model, str) else None
    return settled(exchange(request, replies, _tags(row, scope) | labels, source), signals)


def time_of(row: dict[str, Any]) -> str | None:
    """When the span began, or the annotation was made."""
    return time_in(row, ("start_time", "startTime", "created_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id, where the raw output is its response, and the span's."""
    if _is_annotation(row):
        return ()
    return (*response_ids(lookup(attributes_of(row), "output.value")), *span_id(row))


def user_of(row: dict[str, Any]) -> str | None:
    """The span's user."""
    return None if _is_annotation(row) else user_in({"user": lookup(attributes_of(row), "user.id")})


def _is_annotation(row: dict[str, Any]) -> bool:
    return "span_id" in row and "annotator_kind" in row and "name" in row


def _raw(scope: dict[str, Any], name: str) -> Any:
    """The plain value of a span's side, where it has no messages."""
    value = lookup(scope, name)
    if value is None:
        raise RecordError("missing-field", f"the span has neither messages nor {name}")
    return value


def _enumerated(scope: dict[str, Any], side: str) -> list[tuple[int, dict[str, Any]]]:
    return list(enumerate(collection(scope, f"llm.{side}_messages")))


def _message(raw: dict[str, Any], where: str) -> Message:
    """A message in OpenInference's attributes."""
    content = lookup(raw, "message.content")
    calls = [_call(one, where) for one in collection(raw, "message.tool_calls")]
    parts: list[dict[str, Any]] = []
    for part in collection(raw, "message.contents"):
        kind = lookup(part, "message_content.type")
        if kind == "tool_use":
            calls = calls or [_call(part, where)]
        elif kind != "reasoning":
            parts.append({"type": kind, "text": lookup(part, "message_content.text")})
    said = {
        "role": lookup(raw, "message.role"),
        "content": parts if content is None and parts else content,
        "tool_calls": calls or None,
        "tool_call_id": lookup(raw, "message.tool_call_id"),
        "name": lookup(raw, "message.name"),
    }
    return parse_message(said, where)


def _call(raw: dict[str, Any], where: str) -> dict[str, Any]:
    function = lookup(raw, "tool_call.function.name")
    arguments = lookup(raw, "tool_call.function.arguments")
    return call(function, arguments, lookup(raw, "tool_call.id"), where)


def _tags(row: dict[str, Any], scope: dict[str, Any]) -> dict[str, str]:
    listed = decoded(lookup(scope, "tag.tags"))
    more = {"session_id": lookup(scope, "session.id"), "trace_id": trace_id(row)}
    if isinstance(listed, list):
        more["tags"] = ", ".join(tag for tag in listed if isinstance(tag, str))
    return tags_of(lookup(scope, "metadata")) | tags_of(more)


def _judgements(scope: dict[str, Any]) -> list[Judgement]:
    """The span's annotations; those of its trace or session are about more than this call."""
    return [
        Judgement(
            name,
            lookup(raw, f"{single}.score"),
            lookup(raw, f"{single}.label"),
            lookup(raw, f"{single}.annotator_kind"),
            lookup(raw, f"{single}.explanation"),
        )
        for plural, single in _OPINIONS.items()
        for raw in collection(scope, plural)
        if isinstance(name := lookup(raw, f"{single}.name"), str)
    ]


def _annotation(row: dict[str, Any]) -> Signal:
    about = named("otel:span/", row.get("span_id"))
    result = decoded(row.get("result"))
    home = result if isinstance(result, dict) else row
    if not about:
        raise RecordError("missing-field", "the annotation names no span")
    said = (home.get("score"), home.get("label"), row.get("annotator_kind"))
    return Judgement(need_text(row, "name"), *said, home.get("explanation")).signal(about)


FORMAT = Format(
    "openinference",
    "OpenInference spans (Phoenix, Arize), and annotations of them",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs and scores by name (annotations, evaluations)",
    names="the provider's id of the response, `otel:span/…`",
)
