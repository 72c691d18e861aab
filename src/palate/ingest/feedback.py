"""Thumbs in production logs: which values are read, and as what.

A thumb is read from the fields `FEEDBACK_FIELDS` of the row, of its request, of its response,
of their `metadata`, of a choice and of a choice's message. Its value may be

- text, whatever its case: `UP_WORDS` or `DOWN_WORDS`;
- true / false, or 1 / -1;
- an object that holds one of these under one of `VALUE_FIELDS`, and may name the choice it
  speaks about as `index`;
- for a row with several choices, a list: one value per choice, or objects with `index`.

Null and empty text mean that nobody pressed a thumb. 0 is refused, because it means "down" in
one log and "neutral" in the next; so is everything else that is not listed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from palate.ingest.messages import decoded
from palate.records import RecordError

FEEDBACK_FIELDS = ("feedback", "thumbs", "rating")
VALUE_FIELDS = ("rating", "score", "value", "thumbs", "thumb", "feedback")
_UP = "up|thumbs_up|thumbsup|thumb_up|👍|upvote|positive|good|like|liked|true|1|+1"
_DOWN = "down|thumbs_down|thumbsdown|thumb_down|👎|downvote|negative|bad|dislike|disliked|false|-1"
UP_WORDS = frozenset(_UP.split("|"))
DOWN_WORDS = frozenset(_DOWN.split("|"))


def read_thumb(value: object) -> bool | None:
    """True for up, False for down, None for no feedback.

    Raises `RecordError` under ``unknown-feedback`` for a value that is not listed above, and
    under ``conflicting-feedback`` for an object that says both.
    """
    value = decoded(value)
    if isinstance(value, dict):
        said = [value[name] for name in VALUE_FIELDS if name in value]
        if said and not any(isinstance(inner, dict) for inner in said):
            return agreed(map(read_thumb, said))
    if value is None:
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (1, -1):
        return value == 1
    if isinstance(value, str):
        word = value.strip().lower()
        if not word:
            return None
        spellings = {word, re.sub(r"(?<=[a-z])[ -](?=[a-z])", "_", word)}
        if spellings & (UP_WORDS | DOWN_WORDS):
            return bool(spellings & UP_WORDS)
    raise RecordError(
        "unknown-feedback",
        f'the feedback {value!r:.60} is neither up nor down: write "up" or "down"',
    )


def agreed(thumbs: Iterable[bool | None]) -> bool | None:
    """The one thumb that all who pressed one agree on; ``conflicting-feedback`` otherwise."""
    pressed = {thumb for thumb in thumbs if thumb is not None}
    if len(pressed) > 1:
        raise RecordError("conflicting-feedback", "the same answer has a thumb up and one down")
    return pressed.pop() if pressed else None


def thumbs_about(scope: dict[str, Any]) -> list[object]:
    """The values of the feedback fields of one object and of its `metadata`."""
    found = [scope[name] for name in FEEDBACK_FIELDS if scope.get(name) is not None]
    metadata = decoded(scope.get("metadata"))
    if isinstance(metadata, dict):
        found += [metadata[name] for name in FEEDBACK_FIELDS if metadata.get(name) is not None]
    return found


def refuse_thumbs(row: dict[str, Any]) -> None:
    """Refuse a rated row where ratings are not read: it would be imitated, liked or not."""
    if thumbs_about(row):
        raise RecordError(
            "unread-feedback",
            "the row is rated, but this format reads no thumbs: give data.format=openai-chat",
        )


def choice_labels(
    choices: Sequence[dict[str, Any]], about_row: Sequence[object]
) -> list[bool | None]:
    """One thumb per choice, from the choices' own feedback and from the row's.

    A thumb about the whole row says nothing about any one of several choices, so that is
    refused as ``ambiguous-feedback``.
    """
    thumbs: list[list[bool | None]] = [_own_thumbs(choice) for choice in choices]
    if not about_row:
        return [agreed(said) for said in thumbs]
    places = {_index_of(choice, position): position for position, choice in enumerate(choices)}
    for value in map(decoded, about_row):
        for place, thumb in _placed(value, len(choices)):
            if place is None:
                if len(choices) > 1 and thumb is not None:
                    raise RecordError(
                        "ambiguous-feedback",
                        f"one thumb for {len(choices)} choices: put the feedback in the choice",
                    )
                thumbs[0].append(thumb)
            elif place not in places:
                raise RecordError("unknown-feedback", f"the feedback names choice {place!r:.20}")
            else:
                thumbs[places[place]].append(thumb)
    return [agreed(said) for said in thumbs]


def _own_thumbs(choice: dict[str, Any]) -> list[bool | None]:
    message = choice.get("message")
    homes = [choice, message] if isinstance(message, dict) else [choice]
    return [read_thumb(home[name]) for home in homes for name in FEEDBACK_FIELDS if name in home]


def _index_of(choice: dict[str, Any], position: int) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else position


def _placed(value: object, count: int) -> list[tuple[int | None, bool | None]]:
    """(choice index or None for the whole row, thumb) for each thing a feedback value says."""
    if not isinstance(value, list):
        return [_event(value)]
    events = [_event(item) for item in map(decoded, value)]
    if all(place is None for place, _ in events) and len(events) == count:
        return [(position, thumb) for position, (_, thumb) in enumerate(events)]
    return events


def _event(value: object) -> tuple[int | None, bool | None]:
    place = value.get("index") if isinstance(value, dict) else None
    if place is not None and (isinstance(place, bool) or not isinstance(place, int)):
        raise RecordError("unknown-feedback", f"the feedback names choice {place!r:.20}")
    return place, read_thumb(value)
