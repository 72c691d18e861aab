"""Prompts that are judged by themselves, safe or unsafe: what a guard learns before generation."""

from __future__ import annotations

from typing import Any

from palate.ingest.fields import column_tags, parse_tools, system_turns
from palate.ingest.format import Format
from palate.ingest.messages import check_prompt, need
from palate.ingest.origin import time_in, user_in
from palate.ingest.transcript import prompt_turns
from palate.records import Completion, Example, RecordError

_KNOWN = ("prompt", "label", "system", "tools")
FIELDS = (*_KNOWN, "metadata", "created_at", "user_id")
# True for what may pass. Numbers and true/false are refused: 1 is "safe" in one file and "harmful"
# in the next, and a guard that was trained the wrong way round blocks everybody else.
WORDS = {
    "safe": True,
    "harmless": True,
    "benign": True,
    "unsafe": False,
    "harmful": False,
    "malicious": False,
}
# Fields that say that the label is about an answer.
_ANSWERS = {
    "completion",
    "response",
    "answer",
    "output",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "choices",
}


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a prompt with one of `WORDS`, and no answer."""
    has = {name for name, value in row.items() if value is not None}
    return {"prompt", "label"} <= has and not has & _ANSWERS and _word(row["label"]) in WORDS


def parse(row: dict[str, Any]) -> list[Example]:
    """The prompt, with a completion that has no messages, only the label."""
    word = _word(need(row, "label"))
    if word not in WORDS:
        raise RecordError("bad-label", f"'label' is {row['label']!r:.40}, not safe or unsafe")
    prompt = check_prompt((*system_turns(row), *prompt_turns(need(row, "prompt"))))
    judged = Completion((), label=WORDS[word])
    tags = column_tags(row, _KNOWN)
    return [Example(prompt, (judged,), tools=parse_tools(row.get("tools")), tags=tags)]


def _word(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


FORMAT = Format(
    "prompt-label",
    "Prompts judged by themselves: a prompt, and a label that says safe or unsafe",
    FIELDS,
    sniff,
    parse,
    time_in,
    user=user_in,
    signals="whether a prompt is one to answer, for `palate guard`",
)
