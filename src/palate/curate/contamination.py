"""Contamination: training data that holds the prompts on which the model will be evaluated.

A text is contaminated if it shares a run of `words` words with an evaluation prompt (13, after
Brown et al. 2020, "Language models are few-shot learners", appendix C). A prompt shorter than
that counts if a whole message consists of its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palate.curate.rejects import OnReject, reject
from palate.curate.said import answer_text, asked
from palate.curate.shingles import I64, U64, hash_words, windows, words
from palate.ingest import IngestError, containers, registry
from palate.records import Example, RecordError

PROMPT_FIELDS = ("prompt", "question", "instruction", "query", "problem", "input", "text")
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation prompts, ready for the comparison.

    `runs` are the hashes of their runs of `words` words in ascending order, `row_of` the number of
    the prompt that each comes from; `short` has the shorter prompts whole. `names` says where each
    prompt stands.
    """

    words: int
    names: tuple[str, ...]
    runs: U64
    row_of: I64
    short: dict[tuple[str, ...], int]

    def found_in(self, texts: Sequence[str]) -> list[str | None]:
        """For each text the name of an evaluation prompt that it holds, or None."""
        out: list[str | None] = [None] * len(texts)
        hashes, counts = hash_words(texts)
        runs, owner = windows(hashes, counts, self.words)
        if len(self.runs) and len(runs):
            at = np.minimum(np.searchsorted(self.runs, runs), len(self.runs) - 1)
            for hit in np.flatnonzero(self.runs[at] == runs)[::-1].tolist():
                out[int(owner[hit])] = self.names[int(self.row_of[at[hit]])]
        for number, count in enumerate(counts.tolist()):
            row = self.short.get(tuple(words(texts[number]))) if count < self.words else None
            if row is not None:
                out[number] = self.names[row]
        return out


def read_evaluation(paths: Sequence[str], run: int) -> Evaluation:
    """The prompts in `paths`: data files in a known format, rows with a prompt, lines of text.

    Of a row in one of the formats of training data its prompt is taken, of another row its first
    field among `PROMPT_FIELDS`, of a `.txt` file each line. Raises `IngestError` for a file that
    cannot be read, or in which a row has nothing of that.
    """
    names: list[str] = []
    texts: list[str] = []
    for path in paths:
        for line, text in prompts_in(Path(path).expanduser()):
            names.append(f"{path}:{line}")
            texts.append(text)
    hashes, counts = hash_words(texts)
    runs, owner = windows(hashes, counts, run)
    order = np.lexsort((owner, runs))
    short: dict[tuple[str, ...], int] = {}
    for number, count in enumerate(counts.tolist()):
        if 0 < count < run:
            short.setdefault(tuple(words(texts[number])), number)
    return Evaluation(run, tuple(names), runs[order], owner[order], short)


def prompts_in(path: Path) -> Iterator[tuple[int, str]]:
    """(line, prompt) of one file; see `read_evaluation`."""
    if containers.kind_of(path) == "text":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise IngestError(f"cannot read the evaluation prompts in {path}: {error}") from error
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        return
    empty = True
    for raw in containers.rows(path):
        if raw.value is None:
            raise IngestError(f"{path}:{raw.line} is no evaluation prompt: {raw.error}")
        yield raw.line, _prompt_of(raw.value, f"{path}:{raw.line}")
        empty = False
    if empty:
        raise IngestError(f"{path} holds no evaluation prompt")


def _prompt_of(row: dict[str, object], where: str) -> str:
    known = registry.sniff([row])
    if known is not None:
        try:
            found = [one for one in known.parse(row) if isinstance(one, Example)]
        except RecordError:
            found = []
        if found:
            return asked(found[0])
    for name in PROMPT_FIELDS:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    raise IngestError(
        f"{where} holds no evaluation prompt: it has the fields {', '.join(map(str, row))}, and "
        f"none of {', '.join(PROMPT_FIELDS)}"
    )


def drop_contaminated(
    examples: Sequence[Example], on_reject: OnReject, evaluation: Evaluation
) -> list[Example]:
    """The examples without those that hold an evaluation prompt, which are ``contaminated``.

    Looked at are all messages of the prompt but the system's, what the user said in all turns
    together, as the prompts of an evaluation are read, and all answers.
    """
    out: list[Example] = []
    for begin in range(0, len(examples), _CHUNK):
        some = examples[begin : begin + _CHUNK]
        texts = [_texts(example) for example in some]
        found = iter(evaluation.found_in([text for inside in texts for text in inside]))
        for example, inside in zip(some, texts, strict=True):
            hits = [hit for hit in (next(found) for _ in inside) if hit is not None]
            if hits:
                on_reject(reject(example, "contaminated", f"it holds the prompt of {hits[0]}"))
            else:
                out.append(example)
    return out


def _texts(example: Example) -> list[str]:
    said = [m.content for m in example.prompt if m.role not in {"system", "developer"}]
    turns = [asked(example)] if example.prompt else []
    return said + turns + [answer_text(completion) for completion in example.completions]
