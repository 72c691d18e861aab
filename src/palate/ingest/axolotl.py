"""Axolotl's single-turn types: chatml.intel, .icr and .argilla, their KTO forms, and nectar.

A system prompt stands in `system`, what was asked in `question`, `input` or `instruction`, the
answers in `chosen` and `rejected` or `chosen_response` and `rejected_response`; for KTO there are
`completion` and `label`. Nectar's `{prompt, answers: [{answer, rank}]}` is a group, whose score is
the rank, counted down. (`chat_template.default` is read as llama-factory, and `prompt` with
`chosen` and `rejected` as trl.)
"""

from __future__ import annotations

from typing import Any

from palate.ingest.feedback import refuse_thumbs
from palate.ingest.fields import column_tags, pair, parse_label, single, system_turns
from palate.ingest.format import Format
from palate.ingest.messages import (
    check_answer,
    check_prompt,
    decoded,
    kind,
    need,
    need_text,
    parse_answer,
    refuse_media,
)
from palate.ingest.opinions import as_number
from palate.ingest.origin import time_in, user_in
from palate.ingest.transcript import prompt_turns
from palate.records import Completion, Example, Message, RecordError

FIELDS = ("system", "question", "chosen_response", "rejected_response", "chosen", "answers", "rank")
_ASKED = ("question", "instruction", "input")
_KNOWN = (*FIELDS, *_ASKED, "rejected", "completion", "label", "prompt")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row has the fields of one of the types."""
    has = {name for name, value in row.items() if value is not None}
    if {"chosen_response", "rejected_response"} <= has:
        return True
    if {"prompt", "answers"} <= has:
        answers = decoded(row["answers"])
        return isinstance(answers, list) and all(isinstance(a, dict) for a in answers)
    if "prompt" in has or "messages" in has or "conversations" in has or "instruction" in has:
        return "instruction" in has and "completion" in has and "prompt" not in has
    asked = bool(has & {"question", "input"})
    return asked and ({"chosen", "rejected"} <= has or "completion" in has)


def parse(row: dict[str, Any]) -> list[Example]:
    """One example: a pair, an answer with or without a label, or nectar's ranked group."""
    refuse_media(row)
    tags = column_tags(row, _KNOWN)
    if row.get("answers") is not None:
        return [_ranked(row, tags)]
    asked = next((name for name in _ASKED if row.get(name) is not None), "question")
    prompt = (*system_turns(row), *prompt_turns(need(row, asked), asked))
    if row.get("completion") is not None:
        label = parse_label(row["label"]) if "label" in row else None
        if label is None:
            refuse_thumbs(row)
        return [single(prompt, parse_answer(row["completion"], "completion"), label, tags=tags)]
    suffix = "_response" if row.get("chosen_response") is not None else ""
    better = parse_answer(need(row, f"chosen{suffix}"), "chosen")
    worse = parse_answer(need(row, f"rejected{suffix}"), "rejected")
    return [pair(prompt, better, worse, tags=tags)]


def _ranked(row: dict[str, Any], tags: dict[str, str]) -> Example:
    answers = decoded(row["answers"])
    if not isinstance(answers, list) or not answers:
        raise RecordError("wrong-type", f"'answers' is {kind(answers)}, not a list of answers")
    completions = []
    for index, raw in enumerate(answers):
        if not isinstance(raw, dict):
            raise RecordError("wrong-type", f"'answers[{index}]' is {kind(raw)}, not an object")
        rank = as_number(need(raw, "rank"))
        if rank is None:
            raise RecordError("bad-rank", f"the rank of 'answers[{index}]' is no number")
        said = check_answer((Message("assistant", need_text(raw, "answer")),), f"answers[{index}]")
        model = raw.get("model")
        source = model if isinstance(model, str) else None
        completions.append(Completion(said, source=source, score=-rank))
    prompt = (*system_turns(row), *prompt_turns(need(row, "prompt")))
    return Example(check_prompt(prompt), tuple(completions), tags=tags)


FORMAT = Format(
    "axolotl",
    "Axolotl: chatml.intel, .icr, .argilla, their KTO forms, and nectar's ranked answers",
    FIELDS,
    sniff,
    parse,
    time_in,
    user=user_in,
    signals="pairs; thumbs (`label`); scores (`rank`, counted down)",
)
