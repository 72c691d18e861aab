"""Arrivals as a format would hand them over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.records import (
    Arrival,
    Completion,
    Example,
    Message,
    Provenance,
    Signal,
    Verdict,
    digest,
)


def chat(
    asked: str,
    *answers: str,
    label: bool | None = None,
    tags: dict[str, str] | None = None,
    verdict: Verdict | None = None,
    before: tuple[Message, ...] = (),
    **origin: Any,
) -> Arrival:
    """One question with its answers; `origin` may hold ids, user, line and time."""
    ids, user = origin.get("ids", ()), origin.get("user")
    line, time = origin.get("line", 1), origin.get("time")
    completions = tuple(
        Completion((Message("assistant", text),), source="m", label=label) for text in answers
    )
    example = Example(
        (*before, Message("user", asked)), completions, verdict=verdict, tags=tags or {}
    )
    seal = digest([example.to_dict(), ids, user, time])
    where = Provenance("log.jsonl", line, time, seal)
    return Arrival(replace(example, provenance=(where,)), ids, user)


def signal(about: str, kind: Any, line: int = 1, time: str | None = None, **said: Any) -> Arrival:
    """Something said about the interaction of that id."""
    seal = digest([about, kind, {k: str(v) for k, v in said.items()}, line])
    where = Provenance("feedback.jsonl", line, time, seal)
    return Arrival(Signal((about,), kind, provenance=(where,), **said))
