"""The data card: one page that says what a snapshot holds, how it came about, and what is amiss.

It opens offline and runs no script. Whatever users or models wrote reaches it as escaped text; a
content policy in the page forbids scripts and every outside resource besides.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.curate.funnel import Funnel
from palate.curate.lint import Finding, Number, Report
from palate.curate.said import answer_text, compared
from palate.durable import write_text
from palate.evaluate import data_facts
from palate.evaluate.pages import template
from palate.evaluate.wording import clean, count, percent, plural
from palate.records import Example, Message, Reject, canonical_json, digest

EXAMPLES = 6
_LONGEST = 4000  # characters of a text that the page shows
_UNITS = {"pair": "pair", "labelled": "answer", "demonstration": "demonstration", "text": "text"}


@dataclass(frozen=True, slots=True)
class Card:
    """What the page is made of.

    `split` is False for data of which nothing was to be held out yet. `settings` are those of the
    data section, `files` the snapshot's own with their SHA-256; `tokens` counts the tokens of a
    text in `model`'s tokenizer. With `examples` 0 the page quotes nothing from the data but ids,
    telling words and names.
    """

    name: str
    target: str
    train: Sequence[Example]
    heldout: Sequence[Example]
    rejects: Sequence[Reject]
    funnel: Funnel | None
    report: Report
    split: bool = True
    content_hash: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    tokens: Callable[[str], int] | None = None
    model: str | None = None
    examples: int = EXAMPLES


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer as the page shows it; `side` is chosen, rejected, or what is known of it."""

    side: str
    text: str
    facts: str
    good: bool | None


@dataclass(frozen=True, slots=True)
class ShownExample:
    """An example as the page shows it: `asked` is the last user turn, `earlier` what was before."""

    id: str
    side: str
    asked: str
    system: str
    earlier: tuple[tuple[str, str], ...]
    answers: tuple[ShownAnswer, ...]


def write_data_card(path: Path, card: Card) -> Path:
    """Write the page to `path` and return it; raises `OSError` if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(card))
    return path


def render(card: Card) -> str:
    """The page as HTML text."""
    return template("data_card.html.j2").render(**context(card))


def context(card: Card) -> dict[str, Any]:
    """What the template shows: words and rows; only the drawings are markup."""
    everything = [*card.train, *card.heldout]
    lengths = [data_facts.lengths(everything, "words")]
    if card.tokens is not None:
        unit = f"tokens of {clean(card.model or 'the model')}"
        lengths.append(data_facts.lengths(everything, unit, card.tokens))
    target = shlex.quote(card.target)
    return {
        "name": clean(card.name),
        "title": headline(card),
        "hash": card.content_hash,
        "licence": clean(card.licence) if card.licence else None,
        "funnel": [step for step in data_facts.funnel(card.funnel) if card.split or step.sized],
        "findings": [_finding(finding) for finding in card.report.findings],
        "numbers": [_number(number) for number in card.report.numbers],
        "looked": looked_at(card.report),
        "contents": data_facts.contents(card.train, card.heldout),
        "splits": splits(card),
        "lengths": lengths,
        "examples": shown(card),
        "quoted": card.examples > 0,
        "total": len(everything),
        "rejects": data_facts.rejects(card.rejects, card.examples > 0),
        "dropped": len(card.rejects),
        "provenance": data_facts.provenance(everything),
        "files": [(clean(name), checksum) for name, checksum in card.files.items()],
        "settings": data_facts.settings(card.settings),
        "versions": data_facts.versions(),
        "next_steps": [
            (f"palate data lint {target}", "the findings in the terminal, with every number"),
            (f"palate data show {target}", "what is there; with an id, one example whole"),
        ],
    }


def headline(card: Card) -> str:
    """The size in one line."""
    unit = _UNITS.get(card.report.shape, "example")
    total = plural(len(card.train) + len(card.heldout), unit)
    if not card.split:
        return total
    return f"{total}: {count(len(card.train))} to learn from, {count(len(card.heldout))} held out"


def looked_at(report: Report) -> str:
    """On how much of the data the numbers stand."""
    said = [f"{count(report.read)} of {count(report.given)} examples were looked at"]
    if report.contests:
        said.append(f"models were fitted on {plural(report.contests, 'contest')} of two answers")
    return "; ".join(said)


def splits(card: Card) -> list[data_facts.Row]:
    """(side, examples, distinct prompts, share) of both sides."""
    if not card.split:
        return []
    total = len(card.train) + len(card.heldout)
    return [
        (
            name,
            count(len(side)),
            count(len({example.prompt_key for example in side})),
            percent(len(side) / total if total else 0.0),
        )
        for name, side in (("train", card.train), ("held-out", card.heldout))
    ]


def shown(card: Card) -> list[ShownExample]:
    """Some examples of either side, drawn by a hash of their content: none was picked."""
    sided = [("train", e) for e in card.train] + [("held-out", e) for e in card.heldout]
    sided.sort(key=lambda pair: digest(["card", pair[1].id]))
    return [_shown(side, example) for side, example in sided[: card.examples]]


def _shown(side: str, example: Example) -> ShownExample:
    system = [_said(m) for m in example.prompt if m.role in {"system", "developer"}]
    turns = [m for m in example.prompt if m.role not in {"system", "developer"}]
    users = [at for at, message in enumerate(turns) if message.role == "user"]
    last = users[-1] if users else len(turns) - 1
    return ShownExample(
        id=example.id,
        side=side,
        asked=_said(turns[last]) if turns else "",
        system="\n\n".join(system),
        earlier=tuple((clean(m.role), _said(m)) for at, m in enumerate(turns) if at != last),
        answers=_answers(example),
    )


def _answers(example: Example) -> tuple[ShownAnswer, ...]:
    out = []
    good: bool | None
    for index, completion in enumerate(compared(example)):
        if example.verdict is not None:
            side, good = (("chosen", True), ("rejected", False))[index]
        elif completion.label is not None:
            side, good = ("thumb up", True) if completion.label else ("thumb down", False)
        else:
            side, good = "answer" if example.prompt else "text", None
        facts = [completion.source or "", plural(len(completion.text.split()), "word")]
        if completion.score is not None:
            facts.append(f"score {completion.score:g}")
        if example.verdict is not None and index == 0 and example.verdict.by != "file":
            facts.append(f"verdict by {example.verdict.by}")
        text = _short(answer_text(completion))
        out.append(ShownAnswer(side, text, clean(", ".join(filter(None, facts))), good))
    return tuple(out)


def _said(message: Message) -> str:
    """A turn's words; of a tool call, its JSON."""
    words = message.content
    if not words and message.tool_calls:
        words = canonical_json(list(message.tool_calls))
    return _short(words)


def _short(text: str) -> str:
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"
    return clean(cut)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "level": {"warning": "alarm", "note": "note"}[finding.severity],
        "check": finding.check,
        "number": finding.number.said,
        "sentence": clean(finding.sentence),
        "cure": clean(finding.cure),
        "examples": finding.examples[:EXAMPLES],
    }


def _number(number: Number) -> data_facts.Row:
    return number.check, clean(number.name), number.said, count(number.of)
