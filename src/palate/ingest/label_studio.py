"""Label Studio's JSON export of pairwise tasks: `{data, annotations: [{result}]}`.

The data holds the prompt and two answers, under names that the project chose: the answers are
those that the result's `to_name` lists, if the data has them, else as `palate.ingest.sides` finds
them; the first is on the left. Each annotator has one vote, a choice of "tie" is none for either,
and cancelled annotations do not count. The majority's share is the verdict's strength.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palate.ingest.fields import column_tags, pair
from palate.ingest.format import Format
from palate.ingest.messages import decoded, kind, need, parse_answer
from palate.ingest.opinions import majority
from palate.ingest.origin import time_in
from palate.ingest.sides import PROMPTS, answers_of, prompt_of
from palate.records import Example, RecordError

FIELDS = ("data", "annotations", "completed_by", "result", "selected", "to_name")
_SELECTED = {"left": 0, "right": 1, "tie": None, "neither": None, "both": None, "equal": None}


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a task with its annotations."""
    data, annotations = decoded(row.get("data")), decoded(row.get("annotations"))
    return isinstance(data, dict) and isinstance(annotations, list) and "meta" not in data


def parse(row: dict[str, Any]) -> list[Example]:
    """The pair that most annotators preferred; ``tie`` and ``no-feedback`` where there is none."""
    data = decoded(need(row, "data"))
    if not isinstance(data, dict):
        raise RecordError("wrong-type", f"'data' is {kind(data)}, not an object")
    results = _results(row)
    names = _names(data, results)
    verdict = majority(_vote(result) for result in results)
    sides = [parse_answer(data[name], name) for name in names]
    better, worse = sides[verdict.better], sides[verdict.worse]
    tags = column_tags(data, (*names, *PROMPTS))
    made = pair(prompt_of(data), better, worse, tags=tags)
    return [_judged(made, verdict.strength)]


def time_of(row: dict[str, Any]) -> str | None:
    """When the task was last changed."""
    return time_in(row, ("updated_at", "created_at"))


def _judged(made: Example, strength: float | None) -> Example:
    assert made.verdict is not None
    return replace(made, verdict=replace(made.verdict, by="vote", strength=strength))


def _results(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The one comparison of each annotation that was not cancelled."""
    annotations = decoded(need(row, "annotations"))
    if not isinstance(annotations, list):
        raise RecordError("wrong-type", f"'annotations' is {kind(annotations)}, not a list")
    out = []
    for annotation in annotations:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        listed = annotation.get("result")
        found = [r for r in listed if _compares(r)] if isinstance(listed, list) else []
        out += found[:1]
    return out


def _compares(result: object) -> bool:
    return isinstance(result, dict) and result.get("type") in ("pairwise", "choices")


def _vote(result: dict[str, Any]) -> int | None:
    value = result.get("value")
    said = value.get("selected", value.get("choices")) if isinstance(value, dict) else None
    said = said[0] if isinstance(said, list) and said else said
    if not isinstance(said, str) or said.strip().lower() not in _SELECTED:
        raise RecordError("unread-feedback", f"the annotation selects {said!r:.40}")
    return _SELECTED[said.strip().lower()]


def _names(data: dict[str, Any], results: list[dict[str, Any]]) -> list[str]:
    """The data's names of the left and the right answer."""
    for result in results:
        to = result.get("to_name")
        named = to.split(",") if isinstance(to, str) else to
        if isinstance(named, list) and len(named) == 2:
            found = [n.strip() for n in named if isinstance(n, str) and n.strip() in data]
            if len(found) == 2:
                return found
    names = answers_of(data)
    if len(names) != 2:
        raise RecordError("missing-field", f"the task has {len(names)} answers, not two")
    return names


FORMAT = Format(
    "label-studio",
    "Label Studio's JSON export of pairwise comparisons",
    FIELDS,
    sniff,
    parse,
    time_of,
    signals="votes (the annotators' majority, its share as strength)",
)
