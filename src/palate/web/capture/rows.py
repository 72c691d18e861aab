"""From what passed to rows of a log, and from those to arrivals.

A row is `{request, response}` with `time`, and `metadata` and `user` where headers named the
conversation and the user: the shape in which products log such exchanges, which `palate import`
reads with the same formats. So a captured exchange and its line in a log are one interaction.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from palate.ingest import registry
from palate.ingest.canonical import canonical
from palate.records import Arrival, Example, Provenance, RecordError, Signal
from palate.web.capture import anthropic_stream, openai_stream
from palate.web.capture.bodies import decoded
from palate.web.capture.feedback import signals
from palate.web.capture.frames import Frame
from palate.web.capture.sse import DONE, objects

_HASH_BITS = 64


def row_of(frame: Frame, limit: int) -> dict[str, Any]:
    """The row of a frame; bodies of more than `limit` bytes are refused.

    Raises `RecordError` for bodies that cannot be read, and for an answer that is not whole.
    """
    meta = frame.meta
    if meta["kind"] == "feedback":
        return dict(meta["row"])
    request = _object(decoded(frame.request, meta["request_encoding"], limit), "request")
    answer = decoded(frame.response, meta["response_encoding"], limit)
    if meta["type"].startswith("text/event-stream"):
        response = _streamed(answer)
    else:
        response = _object(answer, "response")
    row: dict[str, Any] = {"request": request, "response": response, "time": iso(meta["time"])}
    if meta["conversation"]:
        row["metadata"] = {"conversation_id": meta["conversation"]}
    if meta["user"]:
        row["user"] = meta["user"]
    return row


def iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def arrivals_of(row: dict[str, Any], source: str, line: int) -> list[Arrival]:
    """The records of a row, as an import of the same row would give them.

    Raises `RecordError` for a row that no format reads.
    """
    row, written = canonical(row, plain=False)
    if "feedback_id" in row:
        where = Provenance(source, line, row["time"], sha256(written).hexdigest())
        names, user = (f"palate:{row['feedback_id']}",), row["feedback"].get("user")
        return [
            Arrival(replace(signal, provenance=(where,)), names, user)
            for signal in signals(row["feedback"])
        ]
    known = registry.sniff([row])
    if known is None:
        raise RecordError("unknown-format", registry.no_match([row]))
    records = known.parse(row)
    where = Provenance(source, line, known.time(row), sha256(written).hexdigest())
    ids, user = known.ids(row), known.user(row) or row.get("user")
    return [Arrival(replace(record, provenance=(where,)), ids, user) for record in records]


def is_sampled(arrivals: list[Arrival], share: float) -> bool:
    """Whether the conversation is among the share that is kept; feedback always is.

    The hash of a conversation's name, or of how it begins, lies evenly in [0, 1).
    """
    record = arrivals[0].record if arrivals else None
    if isinstance(record, Signal) or record is None:
        return True
    return place(record) < share


def place(example: Example) -> float:
    """Where the example's conversation lies in [0, 1), the same on every machine."""
    return int(example.conversation[: _HASH_BITS // 4], 16) / 2.0**_HASH_BITS


def _streamed(body: str) -> dict[str, Any]:
    first = next(objects(body), {})
    if first.get("type") in {"message_start", "ping"}:
        return anthropic_stream.assemble(objects(body))
    return openai_stream.assemble(objects(body), ended=body.rstrip().endswith(DONE))


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken-json", f"the {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RecordError("not-an-object", f"the {what} is not a JSON object")
    return value
