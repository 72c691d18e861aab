"""Prompts to be answered anew: rows that hold a prompt alone, or any format's, without answers.

Rows of `{"prompt": …}` (text or messages, `system` beside it), files in a format that is known, and
`.txt` files with one prompt a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from palate.ingest import containers
from palate.ingest.errors import IngestError
from palate.ingest.fields import column_tags, parse_tools, system_turns
from palate.ingest.messages import check_prompt, need
from palate.ingest.read import SNIFFED_ROWS, read_examples
from palate.ingest.transcript import prompt_turns
from palate.records import Completion, Example, Message, Provenance, RecordError, Reject

_KNOWN = ("prompt", "system", "tools")
# A row with one of these says something about answers, so that a format must read it.
_ANSWERS = ("completion", "response", "chosen", "rejected", "label", "choices", "messages")


def read_prompts(
    path: str | Path, format: str = "auto", on_reject: Callable[[Reject], None] = lambda _: None
) -> list[Example]:
    """The distinct prompts of a file or folder, in order, each with the answers that it came with.

    Equal prompts become one, with the different answers of all of them, in order. Rows that
    cannot be used go to `on_reject`. Raises `IngestError` where there is no prompt at all.
    """
    bare = format == "auto" and is_bare(path)
    found = bare_prompts(path, on_reject) if bare else read_examples(path, format, on_reject)
    merged: dict[str, Example] = {}
    for example in found:
        if not example.prompt:
            where = example.provenance[0]
            reason = "a text, which has no prompt"
            on_reject(Reject(where.source, where.line, "empty-prompt", reason))
            continue
        before = merged.get(example.prompt_key)
        merged[example.prompt_key] = example if before is None else _joined(before, example)
    if not merged:
        raise IngestError(f"there is no prompt in {path}")
    return list(merged.values())


def is_bare(path: str | Path) -> bool:
    """Whether it is a file of prompts and nothing else: `.txt`, or rows of `prompt` alone."""
    given = Path(path).expanduser()
    return given.is_file() and (given.suffix == ".txt" or _bare(given))


def bare_prompts(path: str | Path, on_reject: Callable[[Reject], None]) -> Iterator[Example]:
    """The prompts of such a file, without answers; raises `IngestError` for what is not UTF-8."""
    given = Path(path).expanduser()
    return _lines(given) if given.suffix == ".txt" else _bare_rows(given, on_reject)


def _joined(first: Example, second: Example) -> Example:
    """One prompt with the answers of both; verdicts, which count answers, are left out."""
    answers: dict[str, Completion] = {}
    for completion in (*first.completions, *second.completions):
        answers.setdefault(completion.content_key, completion)
    return replace(first, completions=tuple(answers.values()), verdict=None)


def _lines(path: Path) -> Iterator[Example]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise IngestError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Example(
                (Message("user", line.strip()),), (), provenance=(Provenance(str(path), number),)
            )


def _bare(path: Path) -> bool:
    """Whether most of the first rows hold a prompt and nothing about answers."""
    values = [raw.value for raw in islice(containers.rows(path), SNIFFED_ROWS) if raw.value]
    fits = [_has(value, "prompt") and not any(_has(value, n) for n in _ANSWERS) for value in values]
    return 2 * sum(fits) > len(values)


def _has(row: dict[str, Any], name: str) -> bool:
    return row.get(name) is not None


def _bare_rows(path: Path, on_reject: Callable[[Reject], None]) -> Iterator[Example]:
    for raw in containers.rows(path):
        try:
            if raw.value is None:
                assert raw.error is not None
                raise raw.error
            row = raw.value
            prompt = check_prompt((*system_turns(row), *prompt_turns(need(row, "prompt"))))
            tools, tags = parse_tools(row.get("tools")), column_tags(row, _KNOWN)
        except RecordError as error:
            on_reject(Reject(str(path), raw.line, error.reason, str(error), raw.excerpt))
            continue
        where = Provenance(str(path), raw.line)
        yield Example(prompt, (), tools=tools, tags=tags, provenance=(where,))
