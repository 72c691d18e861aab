"""Tasks of labelling tools: which of their freely named fields was asked, and which answered."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from palate.ingest.dialects import parse_turns
from palate.ingest.messages import as_messages, check_prompt
from palate.records import Message, RecordError

PROMPTS = ("prompt", "instruction", "question", "query", "input", "conversation", "messages")
ANSWERS = ("response", "completion", "answer", "output", "generation", "reply")
_SIDE = re.compile(r"(?P<stem>.*?)[ _-]?(?P<side>\d|[a-e]|left|right|first|second)", re.IGNORECASE)
_ORDER = {"left": "0", "right": "1", "first": "0", "second": "1"}


def prompt_of(task: dict[str, Any]) -> tuple[Message, ...]:
    """The prompt, under the first of `PROMPTS` that the task has; text or messages."""
    name = next((name for name in PROMPTS if task.get(name)), None)
    if name is None:
        raise RecordError("missing-field", f"no prompt: {_seen(task)}, none of {_list(PROMPTS)}")
    return check_prompt(parse_turns(as_messages(task[name]), name))


def answers_of(task: dict[str, Any]) -> list[str]:
    """The names of the answers: those that differ in a number, a letter or a side alone.

    ``response_a`` and ``response_b``, ``text1`` and ``text2``, ``left`` and ``right``; else
    ``chosen`` and ``rejected``, else the one answer under a name of `ANSWERS`. Raises
    `RecordError` under ``missing-field`` where that does not tell.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name, value in task.items():
        match = _SIDE.fullmatch(name)
        if match and value and match["stem"].lower() not in PROMPTS:
            side = match["side"].lower()
            groups[match["stem"]][_ORDER.get(side, side)] = name
    found = [group for group in groups.values() if len(group) > 1]
    if len(found) == 1:
        return [found[0][side] for side in sorted(found[0])]
    if task.get("chosen") and task.get("rejected"):
        return ["chosen", "rejected"]
    alone = [name for name in ANSWERS if task.get(name)]
    if found or len(alone) != 1:
        raise RecordError(
            "missing-field", f"it does not tell which fields are answers: {_seen(task)}"
        )
    return alone


def _seen(task: dict[str, Any]) -> str:
    return f"the task has {_list(task) or 'no fields'}"


def _list(names: Iterable[object]) -> str:
    return ", ".join(str(name)[:40] for name in names)[:200]
