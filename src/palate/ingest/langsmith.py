"""LangSmith: runs with their inputs and outputs, and rows of feedback about them.

Runs of type `llm`, in LangChain's, OpenAI's or Anthropic's words, and the root of a trace where
its inputs and outputs are a conversation; other runs (tools, retrievers, inner chains) are none of
a model. `feedback_stats` tell the mean of each key, as signals. A row of feedback gives a thumb or
a score under its key, and its `correction`, if that has text, the answer as it should have been.
A run's `session_id` is its project: the conversation is the thread that its metadata names.
"""

from __future__ import annotations

from typing import Any

from palate.ingest.dialects import parse_turns, tool_definitions
from palate.ingest.exchange import (
    Request,
    exchange,
    parse_replies,
    parse_request,
    response_ids,
)
from palate.ingest.feedback import FEEDBACK_FIELDS
from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, decoded, need
from palate.ingest.opinions import opinion, settled
from palate.ingest.origin import named, time_in, user_in
from palate.records import Example, Message, RecordError, Signal

FIELDS = (
    "run_type",
    "inputs",
    "outputs",
    "trace_id",
    "feedback_stats",
    "run_id",
    "key",
    "score",
    "correction",
)
_TEXT = ("output", "answer", "content", "text", "response", "corrected_output")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a run, or feedback about one."""
    if "run_type" in row:
        return "inputs" in row or "outputs" in row
    return "run_id" in row and "key" in row and bool(row.keys() & {"score", "value", "correction"})


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """A run with the signals of its statistics, or the signals of a row of feedback."""
    if "run_type" not in row:
        return [*_feedback(row)]
    if row.get("error"):
        raise RecordError("provider-error", f"the run failed: {row['error']!r:.80}")
    root = row.get("parent_run_id") is None
    if row["run_type"] != "llm" and not (root and row["run_type"] == "chain"):
        raise RecordError("no-model-call", f"the run is of type {row['run_type']!s:.40}")
    inputs, outputs = need(row, "inputs"), need(row, "outputs")
    request = parse_request(inputs, "inputs")
    request = Request(request.turns, request.tools or _tools(row), request.model)
    replies = parse_replies(outputs, "outputs")
    made = exchange(request, replies, _tags(row), _text(_metadata(row).get("ls_model_name")))
    return settled(made, _statistics(row))


def time_of(row: dict[str, Any]) -> str | None:
    """When the run began, or the feedback was given."""
    return time_in(row, ("start_time", "created_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The provider's id of the response, and the run's. Feedback has no interaction of its own."""
    if "run_type" not in row:
        return ()
    return (*_provider(row.get("outputs")), *named("langsmith:run/", row.get("id")))


def user_of(row: dict[str, Any]) -> str | None:
    """The user that the run's metadata names."""
    return user_in(_metadata(row)) if "run_type" in row else None


def _provider(outputs: object) -> tuple[str, ...]:
    """The id of the provider's response, which LangChain keeps beside each message."""
    outputs = decoded(outputs)
    ids = response_ids(outputs)
    generations = outputs.get("generations") if isinstance(outputs, dict) else None
    while not ids and isinstance(generations, list) and generations:
        generations = generations[0]
    message = generations.get("message") if isinstance(generations, dict) else None
    said = message.get("kwargs", message) if isinstance(message, dict) else None
    return ids or response_ids(said)


def _extra(row: dict[str, Any]) -> dict[str, Any]:
    extra = decoded(row.get("extra"))
    return extra if isinstance(extra, dict) else {}


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    metadata = decoded(_extra(row).get("metadata"))
    return metadata if isinstance(metadata, dict) else {}


def _tools(row: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The tools of the call, which LangChain keeps apart from its inputs."""
    parameters = _extra(row).get("invocation_params")
    tools = parameters.get("tools") if isinstance(parameters, dict) else None
    return tool_definitions(tools)


def _tags(row: dict[str, Any]) -> dict[str, str]:
    listed = row.get("tags")
    more = {"name": row.get("name"), "trace_id": row.get("trace_id")}
    if isinstance(listed, list):
        more["tags"] = ", ".join(tag for tag in listed if isinstance(tag, str))
    return tags_of(_metadata(row), FEEDBACK_FIELDS) | tags_of(more)


def _statistics(row: dict[str, Any]) -> list[Signal]:
    statistics = decoded(row.get("feedback_stats"))
    if not isinstance(statistics, dict):
        return []
    means = {k: v.get("avg") for k, v in statistics.items() if isinstance(v, dict)}
    return [opinion(k, mean, ids_of(row)) for k, mean in means.items() if mean is not None]


def _feedback(row: dict[str, Any]) -> list[Signal]:
    about = named("langsmith:run/", row.get("run_id"))
    if not about:
        raise RecordError("missing-field", "the feedback names no run")
    source = decoded(row.get("feedback_source"))
    by = _text(source.get("type")) if isinstance(source, dict) else None
    comment = _text(row.get("comment"))
    correction = decoded(row.get("correction"))
    out: list[Signal] = []
    edit = _edited(correction)
    if edit:
        out.append(Signal(about, "edit", edit=edit, by=by, comment=comment))
    value = row.get("score")
    if isinstance(correction, dict) and correction.get("score") is not None:
        value = correction["score"]  # what the judge should have said
    value = row.get("value") if value is None else value
    if value is not None or not out:
        out.append(opinion(str(need(row, "key")), value, about, by, comment))
    return out


def _edited(correction: object) -> tuple[Message, ...]:
    """The answer in a correction: text, a message, or either under one of the usual names."""
    if isinstance(correction, dict):
        found = [correction[name] for name in _TEXT if correction.get(name)]
        if found and not correction.get("role"):
            correction = found[0]
    if isinstance(correction, str) and correction.strip():
        return (Message("assistant", correction),)
    if isinstance(correction, dict) and correction.get("role"):
        return check_answer(parse_turns(correction, "correction"), "correction")
    return ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


FORMAT = Format(
    "langsmith",
    "LangSmith's runs, and its feedback about them",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    user_of,
    signals="thumbs, scores by key, edits (`correction`); means (`feedback_stats`)",
    names="the provider's id of the response, `langsmith:run/…`",
)
