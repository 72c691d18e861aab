"""What a search asks for: words and filters, as the page's address spells them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson

from palate.store.schema import ASIDES

KINDS = ("thumb", "score", "edit", "again", "vote", "tie", *ASIDES)
THUMBS = ("up", "down")
STATES = ("pair", "judged", "unjudged")
_LONGEST = 500  # characters of a value
_CURSOR = re.compile(r"^([^~]{0,64})~([0-9a-f]{1,32})$")


@dataclass(frozen=True, slots=True)
class Asked:
    """Every field is empty where nothing is asked.

    `source` is a source's number, `tag` is ``name`` or ``name=value``, `begin` and `end` are days
    or times in ISO 8601; a day is taken in to its end. `state` is ``pair`` (a vote with a winner,
    or an edit), ``judged`` (any event) or ``unjudged``. `before` is where an earlier page ended.
    """

    words: str = ""
    source: str = ""
    thumb: str = ""
    event: str = ""
    model: str = ""
    tag: str = ""
    begin: str = ""
    end: str = ""
    state: str = ""
    before: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Asked:
        """From an address's parameters; `ValueError` for a value that is none of those known."""
        found = cls(**{f.name: str(given.get(f.name) or "").strip() for f in fields(cls)})
        for name, allowed in (("thumb", THUMBS), ("event", KINDS), ("state", STATES)):
            value = getattr(found, name)
            if value and value not in allowed:
                raise ValueError(f"{name}={value[:40]} is none of {', '.join(allowed)}")
        if found.source and not (found.source.isdecimal() and len(found.source) < 10):
            raise ValueError("a source is named by its number: choose it from the list")
        for name in ("begin", "end"):
            _day(name, getattr(found, name))
        if found.before and not _CURSOR.match(found.before):
            raise ValueError("this address is cut off: search again")
        too_long = [f.name for f in fields(cls) if len(getattr(found, f.name)) > _LONGEST]
        if too_long:
            raise ValueError(f"{too_long[0]} is longer than {_LONGEST} characters")
        return found

    @property
    def cursor(self) -> tuple[str | None, str] | None:
        """(time, id) of the last row that was looked at; the time is None of rows without one."""
        match = _CURSOR.match(self.before)
        return (match[1] or None, match[2]) if match else None

    @property
    def upto(self) -> str:
        """The first moment after the span, as text that compares with the store's times."""
        return f"{self.end}T99" if len(self.end) == len("2026-01-01") else self.end

    @property
    def filters(self) -> dict[str, str]:
        """What is asked apart from the page, without what is empty."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "before"}
        return {name: value for name, value in values.items() if value}


def cursor_of(time: str | None, key: str) -> str:
    """How an address spells a place in the order of the search."""
    return f"{time or ''}~{key}"


def holds(asked: Asked, body: bytes | str) -> bool:
    """Whether an interaction's JSON says the words in a message, and has the model and the tag.

    The database looks for them anywhere in the JSON, which has words of its own.
    """
    raw = orjson.loads(body)
    if asked.words:
        wanted = asked.words.lower()
        if not any(wanted in text.lower() for text in _texts(raw)):
            return False
    if asked.model and all(c.get("source") != asked.model for c in raw["completions"]):
        return False
    name, equals, value = asked.tag.partition("=")
    tags = raw.get("tags", {})
    return not asked.tag or (name in tags and (not equals or tags[name] == value))


def _texts(raw: Mapping[str, Any]) -> list[str]:
    turns = [*raw["prompt"], *(m for c in raw["completions"] for m in c["messages"])]
    return [turn["content"] for turn in turns]


def _day(name: str, value: str) -> None:
    try:
        if value:
            datetime.fromisoformat(value)
    except ValueError:
        said = "a day or a time, as 2026-01-31 or 2026-01-31T18:00"
        raise ValueError(f"{name}={value[:40]} is no time: give {said}") from None
