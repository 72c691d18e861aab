"""Files that are no format: the user says what each column is.

``columns:prompt=question,completion=answer,label=is_correct`` is the name of such a format. The
parts, in their order:

- ``text``: plain text to pretrain on, and nothing else but ``time`` and ``user``;
- ``prompt``: what was asked; several are joined by line breaks, empty ones left out;
- ``system``: the system prompt;
- ``completion``: an answer; ``label``, ``score`` and ``source`` (who wrote it) after it speak about
  that one;
- ``chosen`` and ``rejected``: two answers, of which the first is better;
- ``vote``: which of two completions a person preferred: 1, 2, ``a``, ``b``, ``left``, ``right``,
  and 0 or ``tie`` for neither. The majority decides, its share is the strength;
- ``time`` and ``user``.

``a.b`` names what is under `b` in the object `a`, which is then the answer's source. Columns that
are not named become tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from palate.ingest.attributes import lookup
from palate.ingest.errors import IngestError
from palate.ingest.fields import column_tags, parse_label
from palate.ingest.format import Format
from palate.ingest.messages import as_messages, check_answer, check_prompt, parse_answer
from palate.ingest.messages import kind as kind_of
from palate.ingest.opinions import as_number, majority
from palate.ingest.origin import moment, user_in
from palate.ingest.transcript import prompt_turns
from palate.records import Completion, Example, Message, RecordError, Verdict

PREFIX = "columns:"
HOW = f"{PREFIX}prompt=COLUMN,completion=COLUMN"
_PARTS = (
    "text",
    "prompt",
    "system",
    "completion",
    "label",
    "score",
    "source",
    "chosen",
    "rejected",
    "vote",
    "time",
    "user",
)
_OF_ANSWER = ("label", "score", "source")
_VOTES = {"1": 0, "a": 0, "left": 0, "2": 1, "b": 1, "right": 1, "0": None, "tie": None}


@dataclass(frozen=True, slots=True)
class _Answer:
    """The columns of one answer."""

    text: str
    label: str | None = None
    score: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column is what."""

    prompt: tuple[str, ...]
    answers: tuple[_Answer, ...]
    ranked: bool
    votes: tuple[str, ...]
    system: str | None
    time: str | None
    user: str | None
    text: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are named."""
        out = [*self.prompt, *self.votes, self.system, self.time, self.user, self.text]
        for answer in self.answers:
            out += [answer.text, answer.label, answer.score, answer.source]
        return tuple(name for name in out if name is not None)


def format_of(spec: str) -> Format:
    """The format that `spec` describes; `IngestError` says what is wrong with it."""
    columns = _read(spec)
    parse = partial(_parse if columns.text is None else _text, columns)
    return Format(
        spec,
        "Columns that the user named",
        columns.names,
        lambda row: True,
        parse,
        _one(columns.time, moment),
        user=_one(columns.user, lambda value: user_in({"user": value})),
        signals="thumbs, scores, pairs and votes, by column",
    )


def _one(name: str | None, read: Callable[[Any], str | None]) -> Callable[[dict[str, Any]], Any]:
    return lambda row: None if name is None else read(lookup(row, name))


def _read(spec: str) -> _Columns:
    found: dict[str, list[str]] = {part: [] for part in _PARTS}
    answers: list[_Answer] = []
    for piece in spec.removeprefix(PREFIX).split(","):
        part, _, column = (word.strip() for word in piece.partition("="))
        if part not in _PARTS or not column:
            raise IngestError(
                f"'{piece.strip()}' does not say what a column is: write {HOW}, with the parts "
                f"{', '.join(_PARTS)}"
            )
        if part in _OF_ANSWER:
            if not answers:
                raise IngestError(f"'{piece.strip()}' stands before its completion")
            kept = {name: getattr(answers[-1], name) for name in ("text", *_OF_ANSWER)}
            answers[-1] = _Answer(**{**kept, part: column})
        elif part == "completion":
            answers.append(_Answer(column))
        else:
            found[part].append(column)
    return _checked(found, answers)


def _checked(found: dict[str, list[str]], answers: Sequence[_Answer]) -> _Columns:
    ranked = [*found["chosen"][:1], *found["rejected"][:1]]
    single = {name: next(iter(found[name]), None) for name in ("system", "time", "user", "text")}
    if found["text"]:
        if answers or any(found[name] for name in ("prompt", "system", "vote", "chosen")):
            raise IngestError("a text has no prompt and no answers: name them, or the text alone")
        return _Columns((), (), False, (), **single)
    if not found["prompt"]:
        raise IngestError(f"no column is the prompt: write {HOW}")
    if len(ranked) == 1 or bool(ranked) == bool(answers):
        raise IngestError(f"name either completions, or chosen and rejected: write {HOW}")
    if found["vote"] and len(answers) != 2:
        raise IngestError("votes need two completions: completion=COLUMN,completion=COLUMN,vote=…")
    sides = tuple(_Answer(name) for name in ranked) or tuple(answers)
    return _Columns(tuple(found["prompt"]), sides, bool(ranked), tuple(found["vote"]), **single)


def _parse(columns: _Columns, row: dict[str, Any]) -> list[Example]:
    """One example a row: its prompt, its answers, and what the columns say of them."""
    turns = _prompt(columns, row)
    answers = tuple(_completion(answer, row) for answer in columns.answers)
    verdict = Verdict(0, 1) if columns.ranked else None
    if columns.votes:
        verdict = majority(_vote(row, name) for name in columns.votes)
    if verdict and answers[0].content_key == answers[1].content_key:
        raise RecordError("equal-answers", "both answers are the same")
    known = {name.partition(".")[0] for name in columns.names} | set(columns.names)
    return [Example(check_prompt(turns), answers, verdict, tags=column_tags(row, known))]


def _text(columns: _Columns, row: dict[str, Any]) -> list[Example]:
    """The text of a row, as an example without a prompt."""
    assert columns.text is not None
    said = lookup(row, columns.text)
    if not isinstance(said, str):
        raise RecordError("wrong-type", f"'{columns.text}' is {kind_of(said)}, not text")
    answer = Completion(check_answer((Message("assistant", said),), columns.text))
    return [Example((), (answer,), tags=column_tags(row, columns.names))]


def _prompt(columns: _Columns, row: dict[str, Any]) -> tuple[Message, ...]:
    values = [value for name in columns.prompt if (value := lookup(row, name)) not in (None, "")]
    if not values:
        raise RecordError("missing-field", f"no prompt in {', '.join(columns.prompt)}")
    if len(values) == 1:
        turns = prompt_turns(values[0], columns.prompt[0])
    else:
        wrong = next((value for value in values if not isinstance(value, str)), None)
        if wrong is not None:
            raise RecordError("wrong-type", f"a part of the prompt is {kind_of(wrong)}, not text")
        turns = (Message("user", "\n".join(values)),)
    system = lookup(row, columns.system) if columns.system else None
    if not system:
        return tuple(turns)
    if not isinstance(system, str):
        raise RecordError("wrong-type", f"the system prompt is {kind_of(system)}, not text")
    return (Message("system", system), *turns)


def _completion(answer: _Answer, row: dict[str, Any]) -> Completion:
    raw = as_messages(lookup(row, answer.text))
    if raw is None:
        raise RecordError("missing-field", f"the field '{answer.text}' is missing or null")
    said = check_answer(parse_answer(raw, answer.text), answer.text)
    label = lookup(row, answer.label) if answer.label else None
    score = lookup(row, answer.score) if answer.score else None
    number = as_number(score)
    if number is None and score not in (None, ""):
        raise RecordError("wrong-type", f"'{answer.score}' is {kind_of(score)}, no finite number")
    source = lookup(row, answer.source) if answer.source else None
    return Completion(
        said,
        source=source if isinstance(source, str) else answer.text.rpartition(".")[0] or None,
        score=number,
        label=None if label in (None, "") else parse_label(label),
    )


def _vote(row: dict[str, Any], name: str) -> int | None:
    value = lookup(row, name)
    number = as_number(value) if not isinstance(value, bool) else None
    said = f"{number:g}" if number is not None else str(value).strip().lower()
    if said not in _VOTES:
        raise RecordError("unread-feedback", f"the vote '{name}' is {value!r:.40}")
    return _VOTES[said]
