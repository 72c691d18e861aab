"""An arrival as rows of the store, and rows as an example with its signals.

What was said about an answer is kept apart from the answer: labels, scores and verdicts of an
`Example` become events, and come back as `Signal`s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from palate.curate.signals import own_signals
from palate.records import (
    Arrival,
    Completion,
    Example,
    Message,
    Provenance,
    Signal,
    canonical_json,
)

ID_LENGTH = 32  # hex digits: 128 bits

EventRow = tuple[str, str, str | None, str | None, str]
"""(kind, the signal as JSON, by whom, time, what it is a word on)"""


@dataclass(frozen=True, slots=True)
class Row:
    """One arrival as plain values, which cross to another process quickly.

    `content` and `body` are None of a signal; `about` is empty of an example. `voice` tells the
    row's events from equal ones of other rows; None where the ids do, so that each export of the
    same interaction says the same thing once.
    """

    ids: tuple[str, ...]
    content: str | None
    body: str | None
    user: str | None
    line: int
    time: str | None
    hash: str | None
    events: tuple[EventRow, ...]
    about: tuple[str, ...] = ()
    voice: str | None = None


def row_of(arrival: Arrival) -> Row:
    """The arrival as rows; a signal by itself has no interaction yet."""
    record = arrival.record
    where = record.provenance[0] if record.provenance else Provenance("", 0)
    place = (_storable(arrival.user), where.line, utc(where.time), where.hash)
    ids = tuple(map(_stored, arrival.ids))
    if isinstance(record, Signal):
        about = tuple(map(_stored, record.about))
        own = [name for name in ids if name not in about]
        inside = len(own) < len(ids)  # it stood in the row of what it speaks about
        voice = own[0] if own else None if inside else where.hash
        return Row((), None, None, *place, (event_row(record),), about, voice)
    events = tuple(event_row(signal, place[2]) for signal in own_signals(record))
    voice = None if ids else where.hash
    return Row(ids, content_of(record), body_of(record), *place, events, (), voice)


def event_row(signal: Signal, time: str | None = None) -> EventRow:
    """The signal as the values of an event; its own provenance tells the time, if it has one."""
    if signal.provenance:
        time = utc(signal.provenance[0].time)
    choice = None if signal.kind in {"vote", "tie"} else signal.choice
    slot = f"{choice} {signal.name or ''}"
    return signal.kind, _kept(signal.to_dict()), _storable(signal.by), time, slot


def utc(time: str | None) -> str | None:
    """A time as ISO 8601 in UTC, so that times compare as text; what is none stays as it is.

    A time without a zone is taken to be in UTC.
    """
    if time is None:
        return None
    time = _stored(time)
    try:
        read = datetime.fromisoformat(time)
        aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return time
    return aware.isoformat()


def _storable(text: str | None) -> str | None:
    return None if text is None else _stored(text)


def _stored(text: str) -> str:
    """The text with a mark for each zero byte, which no column of PostgreSQL's can hold."""
    return text.replace("\0", "\ufffd")


def content_of(example: Example) -> str:
    """Hash of what was said, by both sides; white space at the ends of answers is ignored."""
    answers = [
        [{**message.to_dict(), "content": message.content.strip()} for message in c.messages]
        for c in example.completions
    ]
    prompt = [message.to_dict() for message in example.prompt]
    return short_hash(_json({"prompt": prompt, "tools": example.tools, "answers": answers}))


def body_of(example: Example) -> str:
    """The interaction as JSON: prompt, completions, tools and tags, and no word on any of them."""
    body: dict[str, Any] = {"prompt": [message.to_dict() for message in example.prompt]}
    body["completions"] = [_answer(completion) for completion in example.completions]
    if example.tools:
        body["tools"] = example.tools
    if example.tags:
        body["tags"] = example.tags
    return _kept(body)


def example_of(body: str, provenance: Sequence[Provenance] = ()) -> Example:
    """Inverse of `body_of`."""
    raw = loads(body)
    return Example(
        prompt=tuple(Message.from_dict(m) for m in raw["prompt"]),
        completions=tuple(
            Completion(
                tuple(Message.from_dict(m) for m in c["messages"]),
                source=c.get("source"),
                finish_reason=c.get("finish_reason"),
            )
            for c in raw["completions"]
        ),
        tools=tuple(raw.get("tools", ())),
        tags=raw.get("tags", {}),
        provenance=tuple(provenance),
    )


def short_hash(text: str) -> str:
    """The first 32 hex digits of SHA-256."""
    return sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _answer(completion: Completion) -> dict[str, Any]:
    out: dict[str, Any] = {"messages": [message.to_dict() for message in completion.messages]}
    if completion.source is not None:
        out["source"] = completion.source
    if completion.finish_reason is not None:
        out["finish_reason"] = completion.finish_reason
    return out


def loads(text: str) -> Any:
    """What `body_of` and `event_row` wrote: a blank before it says that orjson would round it."""
    return json.loads(text) if text.startswith(" ") else orjson.loads(text)


def _kept(value: object) -> str:
    """JSON that `loads` reads back to an equal value."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return " " + canonical_json(value)


def _json(value: object) -> str:
    """JSON with sorted keys, as `canonical_json` writes it and several times as fast."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return canonical_json(value)
