"""The formats that are read, in the order in which they are tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from palate.config import nearest
from palate.ingest import llama_factory, openai_chat, openai_preference, plain_text, trl
from palate.ingest.errors import IngestError
from palate.records import Example, Signal

Row = dict[str, Any]


def _none(_row: Row) -> str | None:
    return None


def _no_ids(_row: Row) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Format:
    """One source format.

    `sniff` says whether a row looks like it; `parse` turns a row into examples, and into signals
    about the answers of other rows, or raises `RecordError`; `time` reads when the row was
    written, `ids` what names it there (see `Arrival`), `user` whose it is; `fields` are the names
    it looks for.
    """

    name: str
    description: str
    fields: tuple[str, ...]
    sniff: Callable[[Row], bool]
    parse: Callable[[Row], Sequence[Example | Signal]]
    time: Callable[[Row], str | None] = _none
    ids: Callable[[Row], tuple[str, ...]] = _no_ids
    user: Callable[[Row], str | None] = _none


FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        Format(
            "openai-chat",
            "OpenAI chat completions log, request with response, thumbs in feedback",
            openai_chat.FIELDS,
            openai_chat.sniff,
            openai_chat.parse,
            openai_chat.time_of,
        ),
        Format(
            "openai-preference",
            "OpenAI preference fine-tuning file",
            openai_preference.FIELDS,
            openai_preference.sniff,
            openai_preference.parse,
        ),
        Format(
            "llama-factory",
            "LLaMA-Factory: ShareGPT conversations or Alpaca rows, with chosen and rejected",
            llama_factory.FIELDS,
            llama_factory.sniff,
            llama_factory.parse,
        ),
        Format(
            "trl",
            "TRL: prompt, chosen, rejected (text, messages or HH-RLHF), completion and label",
            trl.FIELDS,
            trl.sniff,
            trl.parse,
        ),
        Format(
            "text",
            "Plain text to pretrain on: rows with a text, or .txt and .md files",
            plain_text.FIELDS,
            plain_text.sniff,
            plain_text.parse,
        ),
    )
}


def find(name: str) -> Format:
    """The format called `name`; `IngestError` names the nearest one."""
    if name not in FORMATS:
        raise IngestError(f"unknown format '{name}'{nearest(name, ['auto', *FORMATS])}")
    return FORMATS[name]


def sniff(rows: Sequence[Row]) -> Format | None:
    """The format that most rows look like; each row counts for the first format it fits."""
    votes: Counter[str] = Counter()
    for row in rows:
        fits = next((name for name, known in FORMATS.items() if known.sniff(row)), None)
        if fits is not None:
            votes[fits] += 1
    return max(FORMATS.values(), key=lambda known: votes[known.name]) if votes else None


def no_match(rows: Sequence[Row]) -> str:
    """Why `sniff` found nothing: the fields that were seen, the closest format, and all of them."""
    seen = list(dict.fromkeys(str(name)[:40] for row in rows for name in row))
    closest = max(FORMATS.values(), key=lambda known: len(set(known.fields) & set(seen)))
    if not set(closest.fields) & set(seen):
        hint = ""
    else:
        hint = f"; closest is {closest.name}, which looks for {', '.join(closest.fields)}"
    return (
        f"matches no format: it has the fields {', '.join(seen[:20]) or '(none)'}{hint}; "
        f"formats: {', '.join(FORMATS)}"
    )
