"""UltraFeedback: several models' answers to an instruction, each with a judge's overall score."""

from __future__ import annotations

from typing import Any

from palate.ingest.fields import column_tags
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, check_prompt, decoded, kind, need, need_text
from palate.ingest.opinions import as_number
from palate.records import Completion, Example, Message, RecordError

FIELDS = ("instruction", "completions", "overall_score", "models", "source")
_KNOWN = ("instruction", "completions", "models", "correct_answers", "incorrect_answers")
# The set's own name for the mean of its aspects, which early rows have instead.
_SCORES = ("overall_score", "fine-grained_score")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is an instruction with a list of completions."""
    completions = decoded(row.get("completions"))
    return "instruction" in row and isinstance(completions, list)


def parse(row: dict[str, Any]) -> list[Example]:
    """A group: the instruction, and every answer with its score and its model."""
    asked = Message("user", need_text(row, "instruction"))
    completions = decoded(need(row, "completions"))
    if not isinstance(completions, list):
        raise RecordError("wrong-type", f"'completions' is {kind(completions)}, not a list")
    if not completions:
        raise RecordError("empty-answer", "'completions' is an empty list")
    # One kind of score for all: the two are on scales of their own.
    scored = [name for name in _SCORES if any(_score(raw, name) is not None for raw in completions)]
    score = next(iter(scored), _SCORES[0])
    answers = tuple(_completion(raw, score, i) for i, raw in enumerate(completions))
    return [Example(check_prompt((asked,)), answers, tags=column_tags(row, _KNOWN))]


def _score(raw: object, name: str) -> float | None:
    return as_number(raw.get(name)) if isinstance(raw, dict) else None


def _completion(raw: object, score: str, index: int) -> Completion:
    where = f"completions[{index}]"
    if not isinstance(raw, dict):
        raise RecordError("wrong-type", f"'{where}' is {kind(raw)}, not an object")
    said = check_answer((Message("assistant", need_text(raw, "response")),), where)
    model = raw.get("model")
    source = model if isinstance(model, str) else None
    return Completion(said, source=source, score=_score(raw, score))


FORMAT = Format(
    "ultrafeedback",
    "UltraFeedback: an instruction and several scored completions",
    FIELDS,
    sniff,
    parse,
    signals="scores (`overall_score`)",
)
