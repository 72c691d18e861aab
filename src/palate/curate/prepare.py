"""From a data section of a recipe to examples that can be trained on, in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from palate.config import DataConfig
from palate.curate.conflicts import resolve_conflicts
from palate.curate.demonstrations import make_demonstrations
from palate.curate.filtering import run_filters
from palate.curate.filters import Check
from palate.curate.funnel import Funnel
from palate.curate.labelled import make_labelled
from palate.curate.pairing import make_pairs
from palate.curate.prompts import make_prompts
from palate.curate.rejects import OnReject, reject
from palate.curate.signals import Judged, join, settle
from palate.curate.split import split
from palate.curate.traffic import from_traffic
from palate.ingest import IngestError, read_arrivals
from palate.records import Example, Message, Reject, digest

PROGRESS_EVERY = 100

Progress = Callable[[str, int], None]
Read = Callable[[DataConfig, OnReject], Iterable[Judged]]
# What a method learns from.
Wanted = Literal["pair", "labelled", "demonstration", "text", "prompt"]
_UNITS: dict[Wanted, str] = {
    "pair": "pairs",
    "labelled": "answers",
    "demonstration": "demonstrations",
    "text": "texts",
    "prompt": "prompts",
}
# What to do with data of one shape when a method wants another.
_CURES: dict[str, str] = {
    "pair": "pairs serve every method with two answers (method=dpo), kto, and by their chosen "
    "answers sft",
    "labelled": "thumbs are what method=kto learns from, and sft from the good ones; for pairs a "
    "prompt needs a good answer and a bad one",
    "demonstration": "single answers are what method=sft learns from; for pairs, add a second "
    "answer to each prompt and say which is better",
    "group": "several answers without a verdict: add a score to each, or say which is better",
    "text": "plain text is what method=pretrain learns from",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What training learns from and is measured on, what was left out, and the count of it all."""

    train: list[Example]
    heldout: list[Example]
    rejects: list[Reject]
    funnel: Funnel


@dataclass(slots=True)
class _Tally:
    """All rejects, and those of the stage at hand by reason."""

    rejects: list[Reject] = field(default_factory=list)
    stage: Counter[str] = field(default_factory=Counter)

    def __call__(self, found: Reject) -> None:
        self.rejects.append(found)
        self.stage[found.reason] += 1

    def take(self) -> Counter[str]:
        """The stage's counts; the next stage begins at zero."""
        counts, self.stage = self.stage, Counter()
        return counts


def prepare(
    config: DataConfig,
    seed: int,
    check: Check | None = None,
    shape: Wanted = "pair",
    progress: Progress | None = None,
    known: Mapping[str, bool] | None = None,
    read: Read | None = None,
) -> Prepared:
    """Read, pair, filter, limit and split, with every drop counted.

    `check` is asked about each example last and returns (reason, detail) for one that cannot
    be used, for instance because the model cannot read that many tokens. `progress` gets
    (stage, rows so far). `known` says of prompts (by `prompt_key`) whether they are held out,
    where an earlier stage has decided it. `read` takes the place of the files that `config.path`
    names. Raises `IngestError` with one line, and with the
    rejects, if nothing usable remains, and `ValueError` if the split is impossible.
    """
    tally = _Tally()
    try:
        examples, rows = _read(config, tally, progress, read or from_files)
        return _prepare(config, seed, check, shape, tally, known or {}, (examples, rows))
    except IngestError as error:
        error.rejects = tuple(tally.rejects)
        raise


def _prepare(
    config: DataConfig,
    seed: int,
    check: Check | None,
    shape: Wanted,
    tally: _Tally,
    known: Mapping[str, bool],
    found: tuple[list[Judged], int],
) -> Prepared:
    funnel = Funnel()
    judged, usable = found
    funnel.add("read", usable + len(tally.rejects), "rows read")
    examples = settle(judged, tally, config.score)
    if shape != "text":
        examples += from_traffic(judged)
    if config.system is not None:
        examples = [with_system(example, config.system) for example in examples]
    unit, shapes = _UNITS[shape], Counter(str(example.shape) for example in examples)
    if shape != "text":
        examples = _with_prompt(examples, tally)
    if shape == "pair":
        prompts = len({example.prompt_key for example in examples})
        funnel.add("group", prompts, "prompts", tally.take(), f"{usable} usable rows")
        examples = make_pairs(examples, tally, min_gap=config.min_gap)
        examples = resolve_conflicts(examples, tally)
        funnel.add("pair", len(examples), unit, tally.take())
    elif shape == "text":
        examples = _texts(examples, tally)
        funnel.add("text", len(examples), unit, tally.take())
    elif shape == "prompt":
        examples, origins = make_prompts(examples, tally)
        note = ", ".join(f"{count} {origin}" for origin, count in origins.most_common())
        funnel.add("prompt", len(examples), unit, tally.take(), note)
    else:
        make = make_labelled if shape == "labelled" else make_demonstrations
        examples, origins = make(examples, tally)
        note = ", ".join(f"{count} from {origin}" for origin, count in origins.most_common())
        stage = "label" if shape == "labelled" else "demonstrate"
        funnel.add(stage, len(examples), unit, tally.take(), note)
    examples = run_filters(examples, config.filters, tally, funnel, unit, check)
    tally.take()
    if config.max_pairs is not None:
        examples = _limited(examples, config.max_pairs, seed, tally)
        funnel.add("limit", len(examples), unit, tally.take())
    if not examples:
        raise IngestError(_nothing_left(config, funnel, shape, shapes))
    sides = (config.split_by, config.heldout_values, seed, known)
    train, heldout = split(examples, config.heldout, *sides)
    funnel.add("train", len(train), "train")
    funnel.add("held-out", len(heldout), "held-out")
    return Prepared(train, heldout, tally.rejects, funnel)


def with_system(example: Example, system: str) -> Example:
    """The example with a system prompt before it, unless it has one (or a developer prompt)."""
    if any(message.role in {"system", "developer"} for message in example.prompt):
        return example
    return replace(example, prompt=(Message("system", system), *example.prompt))


def from_files(config: DataConfig, on_reject: OnReject) -> list[Judged]:
    """The examples of the recipe's files, with the signals of other rows joined to them."""
    return join(read_arrivals(config.path, config.format, on_reject), on_reject)


def _read(
    config: DataConfig, tally: _Tally, progress: Progress | None, read: Read
) -> tuple[list[Judged], int]:
    """What was read, and the number of rows that it stood in."""
    judged: list[Judged] = []
    rows: set[tuple[str, int]] = set()
    for one in read(config, tally):
        judged.append(one)
        places = [*one.example.provenance, *(p for s in one.signals for p in s.provenance)]
        rows.update((place.source, place.line) for place in places)
        if progress and len(judged) % PROGRESS_EVERY == 0:
            progress("read", len(judged))
    if progress:
        progress("read", len(judged))
    return judged, len(rows)


def _limited(examples: Iterable[Example], most: int, seed: int, tally: _Tally) -> list[Example]:
    """At most `most` examples, drawn by a hash of seed and content, in their order."""
    listed = list(examples)
    ranked = sorted(range(len(listed)), key=lambda i: (digest([seed, listed[i].id]), i))
    kept = set(ranked[:most])
    for index, example in enumerate(listed):
        if index not in kept:
            tally(reject(example, "over-max-pairs", f"data.max_pairs is {most}"))
    return [example for index, example in enumerate(listed) if index in kept]


def _with_prompt(examples: Iterable[Example], tally: _Tally) -> list[Example]:
    """Those that are not plain text."""
    kept = []
    for example in examples:
        if example.prompt:
            kept.append(example)
        else:
            tally(reject(example, "no-prompt", "plain text has no prompt"))
    return kept


def _texts(examples: Iterable[Example], tally: _Tally) -> list[Example]:
    kept = []
    for example in examples:
        if example.shape == "text":
            kept.append(example)
        else:
            tally(reject(example, "not-text", "a row with a prompt is no plain text"))
    return kept


def _nothing_left(config: DataConfig, funnel: Funnel, shape: Wanted, found: Counter[str]) -> str:
    paths = config.path if isinstance(config.path, str) else ", ".join(config.path)
    reasons = ", ".join(f"{reason} {count}" for reason, count in funnel.dropped.items())
    said = f"no usable {shape} in {paths}: {funnel.stages[0].count} rows read; {reasons}"
    others = [_CURES[kind] for kind, _ in found.most_common(1) if kind != shape]
    return "; ".join([said, *others])
