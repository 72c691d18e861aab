"""What every format shares beside its messages: tools, tags and the verdict of a pair."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from palate.ingest.messages import check_answer, check_prompt, decoded, kind, need_text
from palate.ingest.origin import USER_FIELDS
from palate.records import Completion, Example, Message, RecordError, Verdict

LONGEST_TAG = 200
WIDEST_TAG = 64  # bits of an integer
_USERS = frozenset(USER_FIELDS)


def parse_tools(raw: object) -> tuple[dict[str, Any], ...]:
    """The tool definitions of a request; null and empty text mean none."""
    raw = decoded(raw)
    if raw is None or raw == "":
        return ()
    if not isinstance(raw, list) or not all(isinstance(tool, dict) for tool in raw):
        raise RecordError("wrong-type", f"'tools' is {kind(raw)}, not a list of objects")
    return tuple(raw)


def tags_of(raw: object, leave_out: Collection[str] = ()) -> dict[str, str]:
    """The text, number and true/false values of an object as tags; the rest is no tag.

    Anything but an object gives no tags: metadata is never learned from, so a strange one
    is no reason to drop a row. Whoever asked is none either: `USER_FIELDS` are for deletion.
    """
    raw = decoded(raw)
    if not isinstance(raw, dict):
        return {}
    tags = {}
    for name, value in raw.items():
        if name not in leave_out and name not in _USERS and (tag := _tag(value)) is not None:
            tags[name] = tag
    return tags


def column_tags(row: dict[str, Any], known: Collection[str]) -> dict[str, str]:
    """Tags of a flat row: its `metadata`, and its short columns that the format does not know."""
    columns = tags_of(row, {*known, "metadata"})
    short = {name: value for name, value in columns.items() if len(value) <= LONGEST_TAG}
    return short | tags_of(row.get("metadata"))


def _tag(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, int):
        # str() of an integer beyond 4300 digits raises; as an identifier it is no use either.
        return str(value) if value.bit_length() <= WIDEST_TAG else None
    return value if isinstance(value, str) and value else None


def system_turns(row: dict[str, Any]) -> tuple[Message, ...]:
    """The system prompt of a row that has it in a column of its own."""
    if not row.get("system"):
        return ()
    return (Message("system", need_text(row, "system")),)


def parse_label(value: object) -> bool:
    """A label of an unpaired row: true/false, 1/0, or those as text (a CSV cell)."""
    if isinstance(value, str):
        named = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
        if named is not None:
            return named
    elif isinstance(value, bool):
        return value
    elif isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise RecordError("bad-label", f"'label' is {value!r:.40}, not true or false")


def pair(
    prompt: Sequence[Message],
    chosen: Sequence[Message],
    rejected: Sequence[Message],
    tools: tuple[dict[str, Any], ...] = (),
    tags: dict[str, str] | None = None,
) -> Example:
    """The checked pair of a file that says which answer is better.

    Raises `RecordError`: ``empty-prompt``, ``prompt-not-user``, ``empty-answer``,
    ``answer-not-assistant`` or ``equal-answers``.
    """
    better = Completion(check_answer(chosen, "chosen"))
    worse = Completion(check_answer(rejected, "rejected"))
    if better.content_key == worse.content_key:
        raise RecordError("equal-answers", "the chosen and the rejected answer are the same")
    return Example(
        prompt=check_prompt(prompt),
        completions=(better, worse),
        verdict=Verdict(0, 1),
        tools=tools,
        tags=tags or {},
    )


def single(
    prompt: Sequence[Message],
    answer: Sequence[Message],
    label: bool | None = None,
    tools: tuple[dict[str, Any], ...] = (),
    tags: dict[str, str] | None = None,
) -> Example:
    """The checked demonstration, or labelled answer, of a file that gives one answer."""
    completion = Completion(check_answer(answer, "completion"), label=label)
    return Example(check_prompt(prompt), (completion,), tools=tools, tags=tags or {})


def split_demonstration(turns: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """A whole conversation as prompt and completion, cut at the first reply to a user or tool.

    Everything after the cut is the completion, so that each later reply is learned too.
    """
    for index in range(1, len(turns)):
        if turns[index].role == "assistant" and turns[index - 1].role in {"user", "tool"}:
            return turns[:index], turns[index:]
    raise RecordError("no-reply", "the conversation holds no assistant turn that follows a user's")


def split_last_reply(turns: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """A conversation as prompt and its last reply: what one label or thumb speaks about."""
    return turns[:-1], turns[-1:]
