"""One page on which models stand side by side: figures, and the prompts where they differ most."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.durable import write_text
from palate.evaluate.counting import words_of
from palate.evaluate.measure.answering import PromptSet, Spoken
from palate.evaluate.measure.gathering import HELDOUT, Gathered, Texts
from palate.evaluate.measured import figure_rows
from palate.evaluate.pages import template
from palate.evaluate.runfolder import number, section
from palate.evaluate.wording import clean, plural
from palate.judge.rules import Rule
from palate.records import Example

SHOWN = 24
"""Prompts on the page."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words; `kind` is "same", or "new" where the first text has other ones."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Said:
    """What one model answered, cut where it differs from the first one's answer."""

    model: str
    pieces: tuple[Piece, ...]
    verdict: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class Differing:
    """A prompt with an answer of every model; `distance` says how much they differ, in [0, 1]."""

    asked: str
    where: str
    said: tuple[Said, ...]
    distance: float


def write_comparison(
    path: Path,
    reports: Sequence[Mapping[str, Any]],
    gathered: Sequence[Gathered],
    texts: Texts,
    rule: Rule | None,
) -> None:
    """Write the page of models that were measured together; the base, last in `gathered`, first.

    `reports[i]` is of `gathered[i]`. The page runs no script and opens offline.
    """
    *models, base = gathered
    ordered = [base, *models]
    names = [one.candidate.name for one in ordered]
    shown = differing(ordered, texts, rule)
    page = template("comparison.html.j2").render(
        names=[clean(name) for name in names],
        rows=figures(reports),
        gates=[
            (clean(str(r["model"]["name"])), bool(r["gate"]["passed"]), _failed(r)) for r in reports
        ],
        prompts=shown[:SHOWN],
        total=len(shown),
    )
    write_text(path, page)


def figures(reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """(figure, base, then each model with its change) of every figure that any model has."""
    by_name: dict[str, list[str]] = {}
    order: list[str] = []
    for place, report in enumerate(reports):
        for name, base, value, change in figure_rows(report):
            title = name.partition(" (")[0]
            if title not in by_name:
                by_name[title] = [title, base, *[""] * len(reports)]
                order.append(title)
            by_name[title][1] = by_name[title][1] or base
            by_name[title][2 + place] = f"{value} ({change})" if change else value
    return [by_name[title] for title in order]


def differing(
    gathered: Sequence[Gathered], texts: Texts, rule: Rule | None = None
) -> list[Differing]:
    """Every prompt that all models answered, those whose answers differ most first.

    The distance is the largest over pairs of models of 1 − the share of words in common
    (`difflib`'s ratio over words); answers that are equal in all models are left out.
    """
    found = []
    for asked in texts.sets:
        for row, example in enumerate(asked.examples):
            said = [one.answers[asked.name][row][0] for one in gathered]
            if any(answer.failure is not None for answer in said):
                continue
            distance = _distance([answer.text for answer in said])
            if distance > 0:
                judged = rule if asked.name == HELDOUT else None
                found.append(_shown(asked, example, gathered, said, judged, distance))
    return sorted(found, key=lambda one: -one.distance)


def word_pieces(first: str, second: str) -> tuple[Piece, ...]:
    """The second text in stretches that are the first's too, and stretches that are not."""
    old, new = _WORDS.findall(first), _WORDS.findall(second)
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    pieces: list[Piece] = []
    for tag, _, _, begin, end in matcher.get_opcodes():
        if begin < end:
            pieces.append(
                Piece(clean("".join(new[begin:end])), "same" if tag == "equal" else "new")
            )
    return tuple(pieces)


def _distance(texts: Sequence[str]) -> float:
    words = [text.split() for text in texts]
    return max(
        (
            1 - difflib.SequenceMatcher(a=one, b=other, autojunk=False).ratio()
            for place, one in enumerate(words)
            for other in words[place + 1 :]
        ),
        default=0.0,
    )


def _shown(
    asked: PromptSet,
    example: Example,
    gathered: Sequence[Gathered],
    said: Sequence[Spoken],
    rule: Rule | None,
    distance: float,
) -> Differing:
    answers = []
    for one, answer in zip(gathered, said, strict=True):
        result = rule(example.prompt, answer.text) if rule else None
        size = plural(len(words_of(answer.text)), "word")
        verdict = size if result is None else f"{'passes' if result.passed else 'fails'}, {size}"
        if not answer.finished:
            verdict += ", cut off"
        # Cut against itself the first one's answer is one piece, or none where it is empty.
        pieces = word_pieces(said[0].text, answer.text)
        answers.append(
            Said(
                clean(one.candidate.name),
                pieces,
                clean(verdict),
                None if result is None else result.passed,
            )
        )
    last = next((m.content for m in reversed(example.prompt) if m.role == "user"), "")
    return Differing(clean(last), asked.name, tuple(answers), distance)


def _failed(report: Mapping[str, Any]) -> list[str]:
    checks = section(report, "gate").get("checks")
    out = []
    for check in checks if isinstance(checks, list) else []:
        if not check["passed"]:
            measured = number(check, "value")
            out.append(str(check["about"]) + (": not measured" if measured is None else ""))
    return out
