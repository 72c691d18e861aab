"""The data card's tables: from a snapshot's examples to rows of plain text."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from palate.curate.funnel import Funnel
from palate.curate.lint.text import count_words
from palate.curate.said import answer_text, asked, compared
from palate.durable import file_hash
from palate.evaluate.bars import Side, bar, histogram
from palate.evaluate.wording import clean, count, percent, plural
from palate.records import Example, Reject

Row = tuple[str, ...]

_TAGS, _NAMES, _VALUES = 12, 12, 5  # listed at most
_LANGUAGES_OF = 500  # prompts whose language is named
_FEWEST_LETTERS = 40
_EXCERPTS, _EXCERPT = 3, 200  # of each reason for a reject
_PACKAGES = ("palate", "pyarrow", "numpy", "scikit-learn", "rensa")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the funnel; `bar` is a drawing, `sized` whether anything was left."""

    name: str
    left: str
    bar: str
    dropped: str
    sized: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """One reason for rejects: how many, and the first of them as (place, detail, excerpt)."""

    reason: str
    count: str
    first: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long one kind of text is: a drawing, its two halves' names, rows of numbers."""

    unit: str
    drawings: tuple[tuple[str, str, tuple[str, ...]], ...]
    rows: tuple[Row, ...]


def funnel(found: Funnel | None) -> list[Step]:
    """Every step with what it left and dropped; bars are relative to the largest count."""
    if found is None:
        return []
    most = max((stage.count for stage in found.stages), default=0)
    steps = []
    for stage, (name, number, unit, why) in zip(found.stages, found.rows(), strict=True):
        left = f"{count(number)} {unit}"
        steps.append(Step(clean(name), clean(left), bar(stage.count, most), clean(why), number > 0))
    return steps


def contents(train: Sequence[Example], heldout: Sequence[Example]) -> list[Row]:
    """(what, of it) of everything: prompts, shapes, turns, who judged, who wrote, tags."""
    examples = [*train, *heldout]
    prompts = len({example.prompt_key for example in examples})
    users = [sum(m.role == "user" for m in example.prompt) for example in examples]
    systems = {m.content for e in examples for m in e.prompt if m.role in {"system", "developer"}}
    with_tools = sum(bool(example.tools) for example in examples)
    better, worse = _writers(examples)
    rows: list[Row] = [
        ("Distinct prompts", count(prompts)),
        ("Shapes", _ranked(Counter(example.shape for example in examples))),
        ("Turns of the user", _turns(users)),
        ("System prompts", _systems(examples, len(systems))),
    ]
    judged = Counter(example.verdict.by for example in examples if example.verdict)
    thumbs = Counter(c.label for e in examples for c in e.completions if c.label is not None)
    if judged:
        rows.append(("Verdicts by", _ranked(judged)))
    if thumbs:
        rows.append(("Thumbs", f"{count(thumbs[True])} up, {count(thumbs[False])} down"))
    if better:
        rows.append(("Better answers written by", _ranked(better)))
    if worse:
        rows.append(("Worse answers written by", _ranked(worse)))
    if with_tools:
        rows.append(("With tools", plural(with_tools, "example")))
    tags = Counter(tag for example in examples for tag in example.tags)
    if tags:
        rows.append(("Tags", _ranked(tags, _TAGS)))
    named = languages(examples)
    if named:
        rows.append(("Languages of the prompts", named))
    return rows


def languages(examples: Sequence[Example]) -> str:
    """Languages of the first 500 distinct prompts that are long enough; "" without py3langid."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return ""
    texts = list(dict.fromkeys(asked(example)[:2000] for example in examples))[:_LANGUAGES_OF]
    judged = [text for text in texts if sum(map(str.isalpha, text)) >= _FEWEST_LETTERS]
    if not judged:
        return ""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    names = Counter(str(identifier.rank(text)[0][0]) for text in judged)
    shares = [
        f"{percent(number / len(judged))} {name}"
        for name, number in names.most_common(_VALUES)
        if number >= len(judged) / 100
    ]
    return f"{', '.join(shares)}, by py3langid's word on {plural(len(judged), 'prompt')}"


def lengths(
    examples: Sequence[Example], unit: str, measure: Callable[[str], int] = count_words
) -> Lengths:
    """How long prompts and answers are: drawings and quantiles; words unless told otherwise."""
    prompts = [measure(asked(example)) for example in examples if example.prompt]
    sides: dict[str, list[int]] = defaultdict(list)
    for example in examples:
        for index, completion in enumerate(compared(example)):
            if example.verdict is not None:
                name = ("chosen", "rejected")[index]
            else:
                name = {True: "thumb up", False: "thumb down", None: "answer"}[completion.label]
            sides[name].append(measure(answer_text(completion)))
    order = ("chosen", "thumb up", "answer", "rejected", "thumb down")
    answers = [Side(name, sides[name]) for name in order if name in sides]
    drawings: list[tuple[str, str, tuple[str, ...]]] = []
    if prompts:
        drawings.append((f"Prompts, {unit}", histogram(Side("prompt", prompts)), ()))
    for at in range(0, len(answers), 2):
        pair = answers[at : at + 2]
        names = tuple(side.name for side in pair)
        drawings.append((f"Answers, {unit}", histogram(*pair), names if len(names) > 1 else ()))
    named = [*([Side("prompt", prompts)] if prompts else []), *answers]
    return Lengths(unit, tuple(drawings), tuple(_quantiles(side) for side in named))


def rejects(found: Sequence[Reject], excerpts: bool) -> list[Dropped]:
    """Reasons by how often they occur, each with its first rows where excerpts are wanted."""
    by: dict[str, list[Reject]] = defaultdict(list)
    for one in found:
        by[one.reason].append(one)
    ranked = sorted(by.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        Dropped(clean(reason), count(len(rows)), _first(rows) if excerpts else ())
        for reason, rows in ranked
    ]


def provenance(examples: Sequence[Example]) -> list[Row]:
    """(source, rows used, written between, SHA-256 of the file as it is now) of each source."""
    rows: dict[str, set[int]] = defaultdict(set)
    times: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        for place in example.provenance:
            rows[place.source].add(place.line)
            if place.time:
                times[place.source].append(place.time)
    return [
        (clean(source), count(len(lines)), clean(_span(times[source])), _hash_of(source))
        for source, lines in sorted(rows.items())
    ]


def settings(table: Mapping[str, Any]) -> list[Row]:
    """(setting, value) of nested settings, names joined by dots, as a recipe writes them."""
    rows: list[Row] = []

    def walk(inner: Mapping[str, Any], above: str) -> None:
        for key, value in inner.items():
            name = f"{above}{key}"
            if isinstance(value, Mapping):
                walk(value, f"{name}.")
            else:
                rows.append((clean(name), clean(_plain(value))))

    walk(table, "data.")
    return rows


def versions() -> list[Row]:
    """(package, version) of what prepared, measured and drew."""
    found: list[Row] = [("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _writers(examples: Sequence[Example]) -> tuple[Counter[str], Counter[str]]:
    better: Counter[str] = Counter()
    worse: Counter[str] = Counter()
    for example in examples:
        for index, completion in enumerate(compared(example)):
            bad = index == 1 if example.verdict is not None else completion.label is False
            (worse if bad else better)[completion.source or "unknown"] += 1
    return (Counter(), Counter()) if {*better, *worse} == {"unknown"} else (better, worse)


def _turns(users: Sequence[int]) -> str:
    single = sum(number <= 1 for number in users)
    if single == len(users):
        return "one each"
    return f"one in {count(single)}, more in {count(len(users) - single)} (most: {max(users)})"


def _systems(examples: Sequence[Example], distinct: int) -> str:
    having = sum(any(m.role in {"system", "developer"} for m in e.prompt) for e in examples)
    if not having:
        return "none"
    return f"in {count(having)} of {count(len(examples))}, {count(distinct)} different"


def _quantiles(side: Side) -> Row:
    ordered = sorted(side.lengths)

    def at(share: float) -> str:
        return count(ordered[min(len(ordered) - 1, int(share * len(ordered)))])

    middle = (count(median(ordered)), count(mean(ordered)))
    return side.name, count(len(ordered)), at(0.05), *middle, at(0.95), count(ordered[-1])


def _first(rows: Sequence[Reject]) -> tuple[Row, ...]:
    return tuple(
        (
            clean(f"{row.source}:{row.line}"),
            clean(row.detail),
            clean(" ".join(row.excerpt.split())[:_EXCERPT]),
        )
        for row in rows[:_EXCERPTS]
    )


def _span(times: Sequence[str]) -> str:
    if not times:
        return "not said"
    first, last = min(times), max(times)
    return first if first == last else f"{first} to {last}"


def _hash_of(source: str) -> str:
    path = Path(source).expanduser()
    try:
        return file_hash(path) if path.is_file() else "not here (any more)"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _ranked(counts: Counter[str], most: int = _NAMES) -> str:
    listed = [f"{count(number)} {clean(name)}" for name, number in counts.most_common(most)]
    more = len(counts) - most
    return ", ".join([*listed, *([f"and {more} more"] if more > 0 else [])])


def _plain(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    return str(value)
