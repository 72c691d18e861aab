"""TRL's data set types, as text or as message lists.

Pairs `{prompt, chosen, rejected}`, pairs with an implicit prompt `{chosen, rejected}`, unpaired
`{prompt, completion, label}`, and demonstrations `{prompt, completion}` or `{messages}`. A text
prompt becomes one user message and a text answer one assistant message; HH-RLHF transcripts
become turns. Answers given as messages may repeat the prompt. A system prompt may stand in
`system`, as Axolotl writes it beside a text prompt. `strength` beside a pair, over 0 and at most 1,
says how surely the chosen answer is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from palate.ingest.feedback import refuse_thumbs
from palate.ingest.fields import (
    column_tags,
    pair,
    parse_label,
    parse_tools,
    single,
    split_demonstration,
    system_turns,
)
from palate.ingest.format import Format
from palate.ingest.messages import (
    as_messages,
    kind,
    need,
    parse_answer,
    parse_messages,
    refuse_media,
)
from palate.ingest.origin import time_in, user_in
from palate.ingest.transcript import (
    is_transcript,
    parse_transcript,
    prompt_turns,
    shared_text,
    shared_turns,
)
from palate.records import Example, Message, RecordError

FIELDS = ("prompt", "chosen", "rejected", "completion", "label", "messages")
_KNOWN = (*FIELDS, "system", "tools", "chat_template_kwargs")
# A prompt under another name: taking the answers' shared beginning instead would be wrong.
_OTHER_PROMPTS = ("question", "query", "instruction", "input", "conversations", "messages")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row has the fields of one of TRL's data set types."""
    has = {name for name, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= has:
        return "prompt" in has or not has & set(_OTHER_PROMPTS)
    return {"prompt", "completion"} <= has or ("messages" in has and "choices" not in has)


def parse(row: dict[str, Any]) -> list[Example]:
    """One example: a pair, a labelled answer or a demonstration, by the fields the row has."""
    refuse_media(row)
    tools = parse_tools(row.get("tools"))
    tags = column_tags(row, _KNOWN)
    has = {name for name, value in row.items() if value is not None}
    if has & {"chosen", "rejected"}:
        return [_with_strength(pair(*_pair_turns(row), tools=tools, tags=tags), row)]
    if "completion" in has:
        prompt = _prompt(row)
        answer = _without_prompt(parse_answer(row["completion"], "completion"), prompt)
        # A label column that is empty must not turn an unrated answer into one to imitate.
        label = parse_label(row["label"]) if "label" in row else None
        if label is None:
            refuse_thumbs(row)
        return [single(prompt, answer, label, tools, tags)]
    if "prompt" in has:
        raise RecordError(
            "missing-field", "a prompt, but neither chosen and rejected nor completion"
        )
    refuse_thumbs(row)
    turns = parse_messages(need(row, "messages"), "messages")
    return [single(*split_demonstration(turns), tools=tools, tags=tags)]


def _with_strength(made: Example, row: dict[str, Any]) -> Example:
    """The pair with the strength that the row gives it; another value is a tag like any other."""
    value = row.get("strength")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        return made
    assert made.verdict is not None
    tags = {name: tag for name, tag in made.tags.items() if name != "strength"}
    return replace(made, verdict=replace(made.verdict, strength=float(value)), tags=tags)


def _pair_turns(
    row: dict[str, Any],
) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """(prompt, chosen, rejected), the prompt taken from the answers if it is not written apart."""
    chosen, rejected = as_messages(need(row, "chosen")), as_messages(need(row, "rejected"))
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RecordError(
            "wrong-type", f"chosen is {kind(chosen)} and rejected is {kind(rejected)}"
        )
    if row.get("prompt") is not None:
        prompt = _prompt(row)
        answers = [parse_answer(chosen, "chosen"), parse_answer(rejected, "rejected")]
        if any(answer and answer[0].role != "assistant" for answer in answers):
            return _explicit_in_turns(prompt, answers)
        return prompt, answers[0], answers[1]
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not chosen.strip() or not rejected.strip():
            raise RecordError("empty-answer", "the chosen or the rejected text is empty")
        if is_transcript(chosen) and is_transcript(rejected):
            return shared_turns(parse_transcript(chosen), parse_transcript(rejected))
        if chosen.strip() == rejected.strip():
            raise RecordError("equal-answers", "the chosen and the rejected text are the same")
        prompt_text, better, worse = shared_text(chosen, rejected)
        user = Message("user", prompt_text)
        return (user,), (Message("assistant", better),), (Message("assistant", worse),)
    return shared_turns(parse_messages(chosen, "chosen"), parse_messages(rejected, "rejected"))


def _prompt(row: dict[str, Any]) -> tuple[Message, ...]:
    """The prompt, after a system prompt that stands in a column of its own."""
    return (*system_turns(row), *prompt_turns(need(row, "prompt")))


def _explicit_in_turns(
    prompt: tuple[Message, ...], answers: Sequence[tuple[Message, ...]]
) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """Answers that repeat the prompt; they may also begin with a system turn that it lacks."""
    chosen, rejected = (_without_prompt(answer, prompt) for answer in answers)
    if all(side[:1] and side[0].role == "assistant" for side in (chosen, rejected)):
        return prompt, chosen, rejected
    shared, chosen, rejected = shared_turns(answers[0], answers[1])
    if [m.content.strip() for m in shared[-len(prompt) :]] != [m.content.strip() for m in prompt]:
        raise RecordError("prompt-mismatch", "the answers begin with another prompt than 'prompt'")
    return shared, chosen, rejected


def _without_prompt(turns: Sequence[Message], prompt: Sequence[Message]) -> Sequence[Message]:
    same = [(m.role, m.content.strip()) for m in turns[: len(prompt)]]
    if same == [(m.role, m.content.strip()) for m in prompt]:
        return turns[len(prompt) :]
    return turns


FORMAT = Format(
    "trl",
    "TRL: prompt, chosen, rejected (text, messages or HH-RLHF), completion and label",
    FIELDS,
    sniff,
    parse,
    time_in,
    user=user_in,
    signals="pairs, with their `strength`; thumbs (`label`)",
)
