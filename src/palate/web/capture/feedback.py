"""`POST /v1/feedback`: what somebody says about an answer that passed through the proxy.

    {"id": "chatcmpl-8xKq01", "rating": "up"}
    {"id": "chatcmpl-8xKq01", "edit": "The answer as it should have been.", "user": "anna"}
    {"id": "chatcmpl-8xKq01", "again": true, "choice": 1, "comment": "too long"}

One body may say several of these. An id that is not known yet is no error: the answer may still be
on its way into the store, which joins the two when both are there.
"""

from __future__ import annotations

import json
from typing import Any

from palate.ingest.feedback import read_thumb
from palate.ingest.messages import check_answer, kind, parse_answer
from palate.ingest.origin import provider_id
from palate.records import RecordError, Signal

FIELDS = ("id", "rating", "edit", "again", "choice", "comment", "user")
SAYING = ("rating", "edit", "again")


class BadFeedback(ValueError):
    """A body that is refused, with one line that says what to send instead."""


def read(body: bytes) -> dict[str, Any]:
    """The body's JSON object, checked to its last field; raises `BadFeedback`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFeedback("the body is not JSON: send an object with id and rating") from error
    if not isinstance(value, dict):
        raise BadFeedback(f"the body is {kind(value)}: send an object with id and rating")
    if unknown := [name for name in value if name not in FIELDS]:
        raise BadFeedback(f"unknown field '{unknown[0]:.40}'; known: {', '.join(FIELDS)}")
    given = {name: field for name, field in value.items() if field is not None}
    _check_fields(given)
    try:
        said = signals(given)
        json.dumps(given, ensure_ascii=False).encode()
    except RecordError as error:
        raise BadFeedback(str(error)) from error
    except UnicodeEncodeError as error:
        raise BadFeedback("the body holds half of a surrogate pair") from error
    if not said:
        raise BadFeedback('say something: "rating": "up" or "down", "edit": …, or "again": true')
    return given


def _check_fields(given: dict[str, Any]) -> None:
    """Every field but the rating and the edit, which `signals` reads."""
    name = given.get("id")
    if not isinstance(name, str) or not name.strip():
        raise BadFeedback('give the id of the answer, as in "id": "chatcmpl-…"')
    if not provider_id(name.strip()):
        raise BadFeedback(f"the id {name!r:.40} does not name one answer: too short, or too long")
    for field in ("comment", "user"):
        if not isinstance(given.get(field, ""), str):
            raise BadFeedback(f"'{field}' is {kind(given[field])}, not text")
    choice = given.get("choice", 0)
    if not isinstance(choice, int) or isinstance(choice, bool) or choice < 0:
        raise BadFeedback("'choice' is the index of an answer: 0 or more")
    if given.get("again", True) is not True:
        raise BadFeedback("'again' is true, or left out")


def signals(given: dict[str, Any]) -> list[Signal]:
    """What a checked body says, one signal each; raises `RecordError` for a bad rating or edit."""
    shared: dict[str, Any] = {
        "about": provider_id(given["id"].strip()),
        "choice": given.get("choice", 0),
        "by": given.get("user"),
        "comment": given.get("comment"),
    }
    said = []
    thumb = read_thumb(given.get("rating"))
    if thumb is not None:
        said.append(Signal(kind="thumb", label=thumb, **shared))
    if "edit" in given:
        edit = check_answer(parse_answer(given["edit"], "edit"), "edit")
        said.append(Signal(kind="edit", edit=edit, **shared))
    if given.get("again"):
        said.append(Signal(kind="again", **shared))
    return said
