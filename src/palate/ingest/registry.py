"""The formats that are read, in the order in which they are tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from palate.config import nearest
from palate.ingest import (
    anthropic,
    argilla,
    axolotl,
    columns,
    fastchat_arena,
    helicone,
    label_studio,
    langfuse,
    langsmith,
    litellm,
    llama_factory,
    lmsys_chat,
    open_webui,
    openai_chat,
    openai_preference,
    openinference,
    opentelemetry,
    plain_text,
    prompt_label,
    trl,
    ultrafeedback,
)
from palate.ingest.errors import IngestError
from palate.ingest.format import Format, Row
from palate.records import RecordError

# Logs first, by names of their own; what many rows could be is tried last.
FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        langsmith,
        langfuse,
        helicone,
        litellm,
        opentelemetry,
        openinference,
        open_webui,
        fastchat_arena,
        lmsys_chat,
        label_studio,
        argilla,
        ultrafeedback,
        anthropic,
        openai_chat,
        openai_preference,
        axolotl,
        llama_factory,
        trl,
        prompt_label,
        plain_text,
    )
}


def find(name: str) -> Format:
    """The format called `name`, or the columns that it names; else `IngestError` with the nearest.

    See `palate.ingest.columns` for names such as ``columns:prompt=question,completion=answer``.
    """
    if name.startswith(columns.PREFIX):
        return columns.format_of(name)
    if name not in FORMATS:
        raise IngestError(f"unknown format '{name}'{nearest(name, ['auto', *FORMATS])}")
    return FORMATS[name]


def sniff(rows: Sequence[Row]) -> Format | None:
    """The format that most rows look like; each row counts for the first format it fits."""
    votes: Counter[str] = Counter()
    for row in rows:
        fits = next((name for name, known in FORMATS.items() if _fits(known, row)), None)
        if fits is not None:
            votes[fits] += 1
    return max(FORMATS.values(), key=lambda known: votes[known.name]) if votes else None


def _fits(known: Format, row: Row) -> bool:
    try:
        return known.sniff(row)
    except (RecordError, RecursionError):  # of JSON within its texts; reading will say so
        return False


def no_match(rows: Sequence[Row]) -> str:
    """Why `sniff` found nothing: the fields that were seen, the closest format, and all of them."""
    seen = list(dict.fromkeys(str(name)[:40] for row in rows for name in row))
    shared = {name: len({*known.fields} & {*seen}) for name, known in FORMATS.items()}
    closest = max(FORMATS.values(), key=lambda known: (shared[known.name], -len(known.fields)))
    if not shared[closest.name]:
        hint = ""
    else:
        hint = f"; closest is {closest.name}, which looks for {', '.join(closest.fields)}"
    return (
        f"matches no format: it has the fields {', '.join(seen[:20]) or '(none)'}{hint}; "
        f"formats: {', '.join(FORMATS)}; or say what its columns are: format {columns.HOW}"
    )
