"""Argilla's JSON export: `{id, fields, metadata, responses: {question: [{value, user_id}]}}`.

Fields and questions are named by the project: prompt and answers as `palate.ingest.sides` finds
them. With several answers, a response that names one of them (``response_2``, ``2``, ``b``) is a
vote, "tie" is one for neither, and a ranking gives each answer its place; the annotators' majority
is the verdict, their mean place the score. With one answer, a word or a number is a thumb or a
score under the question's name, and a text is the answer as it should have been. Suggestions,
which are a model's, and responses that were not submitted are not read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from palate.ingest.fields import tags_of
from palate.ingest.format import Format
from palate.ingest.messages import check_answer, decoded, kind, need, parse_answer
from palate.ingest.opinions import as_number, majority, opinion, settled
from palate.ingest.origin import named, time_in
from palate.ingest.sides import answers_of, prompt_of
from palate.records import Completion, Example, Message, RecordError, Signal

FIELDS = ("id", "fields", "metadata", "responses", "suggestions", "status")
_TIES = {"tie", "equal", "both", "neither", "same", "none", "0"}
_UUID = 36  # characters
_SUBMITTED = (None, "submitted")


def sniff(row: dict[str, Any]) -> bool:
    """Whether the row is a record of Argilla's, of either generation of its export."""
    fields = decoded(row.get("fields"))
    return isinstance(fields, dict) and "responses" in row


def parse(row: dict[str, Any]) -> list[Example | Signal]:
    """A comparison of several answers, or one answer with what was said of it."""
    fields = decoded(need(row, "fields"))
    if not isinstance(fields, dict):
        raise RecordError("wrong-type", f"'fields' is {kind(fields)}, not an object")
    names = answers_of(fields)
    prompt = prompt_of(fields)
    said = [check_answer(parse_answer(fields[name], name), name) for name in names]
    answers = tuple(Completion(turns) for turns in said)
    made = Example(prompt, answers, tags=tags_of(row.get("metadata")))
    given = [*_given(row)]
    if len(names) == 1:
        return _about_one(made, given, ids_of(row))
    return [_compared(made, names, given)]


def time_of(row: dict[str, Any]) -> str | None:
    """When the record was last changed, where the export tells it."""
    return time_in(row, ("updated_at", "inserted_at"))


def ids_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The server's id of the record, or its own where that is a UUID."""
    own = row.get("id")
    own = own if isinstance(own, str) and len(own) == _UUID else None
    return named("argilla:record/", row.get("_server_id") or own)


def _given(row: dict[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    """(question, value, user) of each response that was submitted."""
    responses = decoded(row.get("responses"))
    if isinstance(responses, list):  # the first generation: a list of users' answers
        for one in responses:
            if isinstance(one, dict) and one.get("status") in _SUBMITTED:
                values = one.get("values")
                for question, value in values.items() if isinstance(values, dict) else ():
                    inner = value.get("value") if isinstance(value, dict) else value
                    yield question, inner, _text(one.get("user_id"))
        return
    if not isinstance(responses, dict):
        raise RecordError("wrong-type", f"'responses' is {kind(responses)}, not an object")
    for question, listed in responses.items():
        for one in listed if isinstance(listed, list) else [listed]:
            if isinstance(one, dict) and one.get("status") in _SUBMITTED:
                yield question, one.get("value"), _text(one.get("user_id"))


def _compared(made: Example, names: list[str], given: list[tuple[str, Any, str | None]]) -> Example:
    """The answers with the verdict of the votes, or with the mean of their ranks as scores."""
    votes: list[int | None] = []
    ranks: dict[int, list[float]] = defaultdict(list)
    for _, value, _ in given:
        if isinstance(value, list):
            for place in value:
                answer = _choice(place.get("value"), names) if isinstance(place, dict) else None
                rank = as_number(place.get("rank")) if isinstance(place, dict) else None
                if answer is not None and rank is not None:
                    ranks[answer].append(-rank)
        elif isinstance(value, str) and value.strip().lower() in _TIES:
            votes.append(None)
        elif (answer := _choice(value, names)) is not None:
            votes.append(answer)
    if ranks:
        means = [sum(r) / len(r) if (r := ranks.get(i)) else None for i in range(len(names))]
        scored = zip(made.completions, means, strict=True)
        answers = tuple(Completion(a.messages, score=mean) for a, mean in scored)
        return Example(made.prompt, answers, tags=made.tags)
    if len(names) > 2:
        raise RecordError("unread-feedback", f"a choice among {len(names)} answers ranks no two")
    if made.completions[0].content_key == made.completions[1].content_key:
        raise RecordError("equal-answers", "both answers are the same")
    return Example(made.prompt, made.completions, majority(votes), tags=made.tags)


def _choice(value: object, names: list[str]) -> int | None:
    """Which answer a response names: by the field's name, its number from 1, or its letter."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    said = str(value)[:80].strip().lower().replace("-", "_").replace(" ", "_")
    known = [name.lower().replace("-", "_").replace(" ", "_") for name in names]
    if said in known:
        return known.index(said)
    tail = said.rpartition("_")[2]
    for spelled in ([str(i + 1) for i in range(len(names))], list("abcde")[: len(names)]):
        if tail in spelled:
            return spelled.index(tail)
    return None


def _about_one(
    made: Example, given: list[tuple[str, Any, str | None]], about: tuple[str, ...]
) -> list[Example | Signal]:
    """The answer, and what the annotators said of it."""
    signals: list[Signal] = []
    tags = dict(made.tags)
    for question, value, by in given:
        try:
            signals.append(opinion(question, value, about, by))
        except RecordError:
            if isinstance(value, str) and value.strip() and " " in value.strip():
                edit = (Message("assistant", value),)
                signals.append(Signal(about, "edit", edit=edit, by=by))
            else:
                tags |= tags_of({question: value})
    return settled(Example(made.prompt, made.completions, tags=tags), signals)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


FORMAT = Format(
    "argilla",
    "Argilla's JSON export of records with responses",
    FIELDS,
    sniff,
    parse,
    time_of,
    ids_of,
    signals="votes and ranks of several answers; of one: thumbs, scores by question, edits",
    names="`argilla:record/…`, the server's id",
)
