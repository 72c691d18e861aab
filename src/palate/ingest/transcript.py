"""Prompts that are not written apart: HH-RLHF transcripts, and shared beginnings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from palate.ingest.messages import as_messages, parse_messages
from palate.records import Message, RecordError

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    r"""Whether the text begins like `\n\nHuman: …` and has an assistant's turn."""
    return re.match(r"\s*Human:", text) is not None and "\n\nAssistant:" in text


def parse_transcript(text: str) -> tuple[Message, ...]:
    r"""The turns of `\n\nHuman: … \n\nAssistant: …`; white space around a turn is dropped."""
    pieces = _TURN.split(text.lstrip())
    return tuple(
        Message(_ROLES[speaker], said.strip())
        for speaker, said in zip(pieces[1::2], pieces[2::2], strict=True)
    )


def prompt_turns(raw: object, where: str = "prompt") -> tuple[Message, ...]:
    """A prompt written as text, as a transcript that stops at the assistant, or as messages."""
    value = as_messages(raw)
    if value and not isinstance(value, str):
        return parse_messages(value, where)
    if not isinstance(value, str) or not value.strip():
        raise RecordError("empty-prompt", "the prompt is empty")
    if is_transcript(value):
        turns = parse_transcript(value)
        return turns[:-1] if turns[-1] == Message("assistant", "") else turns
    return (Message("user", value),)


def shared_turns(
    chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """(prompt, chosen, rejected): the longest shared beginning after which both sides answer.

    Raises `RecordError` under ``no-shared-prompt`` if there is none.
    """
    if list(chosen) == list(rejected):
        raise RecordError("equal-answers", "the chosen and the rejected conversation are the same")
    same = 0
    for ours, theirs in zip(chosen, rejected, strict=False):
        if ours != theirs:
            break
        same += 1
    for cut in range(same, 0, -1):
        nexts = [turns[cut].role for turns in (chosen, rejected) if cut < len(turns)]
        if chosen[cut - 1].role in {"user", "tool"} and set(nexts) <= {"assistant"}:
            return chosen[:cut], chosen[cut:], rejected[cut:]
    raise RecordError("no-shared-prompt", "chosen and rejected share no beginning to answer to")


def shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """(prompt, chosen, rejected): the shared beginning, cut where a word ends.

    The white space at the cut stays with the answers, so that prompt plus answer is the text
    as it was. Raises `RecordError` under ``no-shared-prompt`` if no whole word is shared.
    """
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    ends = [text[same : same + 1] for text in (chosen, rejected)]
    if not all(end == "" or end.isspace() for end in ends):
        while same > 0 and not chosen[same - 1].isspace():
            same -= 1
    while same > 0 and chosen[same - 1].isspace():
        same -= 1
    if not chosen[:same].strip():
        raise RecordError("no-shared-prompt", "chosen and rejected share no beginning")
    return chosen[:same], chosen[same:], rejected[same:]
