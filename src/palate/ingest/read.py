"""Path in, records out: the one way into the program for data in files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import chain, islice
from pathlib import Path
from typing import Any

from palate.ingest import containers, hub, registry
from palate.ingest.errors import IngestError
from palate.ingest.messages import check_unicode
from palate.ingest.text_rows import EXCERPT, Raw
from palate.records import (
    Arrival,
    Example,
    Provenance,
    RecordError,
    Reject,
    canonical_json,
    digest,
)

SNIFFED_ROWS = 32

OnReject = Callable[[Reject], None]


def read_arrivals(
    paths: str | Path | Sequence[str | Path],
    format: str = "auto",
    on_reject: OnReject | None = None,
) -> Iterator[Arrival]:
    """The records of files, folders and hub data sets, in their order, with provenance.

    Each row becomes records or one `Reject` handed to `on_reject`; none is left out silently.
    The format is looked for in each file on its own unless `format` names it. Raises
    `IngestError` for a missing or unreadable file, an unknown format, a file that matches no
    format, and, at the end, if not one row could be used.
    """
    chosen = None if format == "auto" else registry.find(format)
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise IngestError("no data: give at least one path")
    sources = [source for path in given for source in _sources(path)]
    names = ", ".join(str(path) for path in given)
    return _read_all(sources, chosen, on_reject, names)


def read_examples(
    paths: str | Path | Sequence[str | Path],
    format: str = "auto",
    on_reject: OnReject | None = None,
) -> Iterator[Example]:
    """The examples of `read_arrivals` alone, as they stand in their rows.

    A signal about another row's answer is a reject here, ``signal-elsewhere``: what joins the two
    is `palate.curate.signals`.
    """
    return _examples(read_arrivals(paths, format, on_reject), on_reject)


def _examples(arrivals: Iterable[Arrival], on_reject: OnReject | None) -> Iterator[Example]:
    for arrival in arrivals:
        if isinstance(arrival.record, Example):
            yield arrival.record
        elif on_reject is not None:
            where = arrival.record.provenance[0]
            detail = "it speaks about an answer in another row"
            on_reject(Reject(where.source, where.line, "signal-elsewhere", detail))


def _sources(path: str | Path) -> Iterable[tuple[str, Path, bool]]:
    """(name for provenance, local file, whether the file was named by the user)."""
    if str(path).startswith(hub.PREFIX):
        return [(name, local, False) for name, local in hub.fetch(str(path))]
    given = Path(path).expanduser()
    return [(str(file), file, file == given) for file in containers.files(given)]


def _read_all(
    sources: list[tuple[str, Path, bool]],
    chosen: registry.Format | None,
    on_reject: OnReject | None,
    names: str,
) -> Iterator[Arrival]:
    dropped: Counter[str] = Counter()
    first: list[Reject] = []
    usable = False

    def count(reject: Reject) -> None:
        dropped[reject.reason] += 1
        first[:] = first or [reject]
        if on_reject is not None:
            on_reject(reject)

    for name, path, named in sources:
        for arrival in _read_file(name, path, named, chosen, count):
            usable = True
            yield arrival
    if not usable:
        raise IngestError(f"no usable row in {names}: {_why(dropped, first)}")


def _why(dropped: Counter[str], first: list[Reject]) -> str:
    if not first:
        return "there is no row at all"
    reasons = ", ".join(f"{reason} {number}" for reason, number in dropped.most_common())
    return f"{reasons} (first at line {first[0].line}: {first[0].detail})"


def _read_file(
    source: str,
    path: Path,
    named: bool,
    chosen: registry.Format | None,
    on_reject: OnReject,
) -> Iterator[Arrival]:
    rows = _checked(source, containers.rows(path), on_reject)
    head = [] if chosen else list(islice(rows, SNIFFED_ROWS))
    known = chosen
    if known is None:
        seen = [value for _, value, _ in head]
        known = registry.sniff(seen)
        if known is None and not head:
            return
        if known is None and named:
            raise IngestError(f"{source} {registry.no_match(seen)}")
        if known is None:
            on_reject(Reject(source, 1, "unknown-format", f"the file {registry.no_match(seen)}"))
            return
    assert known is not None
    for line, value, written in chain(head, rows):
        try:
            records = known.parse(value)
        except RecordError as error:
            on_reject(_reject(source, line, error, written[:EXCERPT]))
            continue
        where = Provenance(source, line, known.time(value), digest(value))
        ids, user = known.ids(value), known.user(value)
        for record in records:
            yield Arrival(replace(record, provenance=(where,)), ids, user)


def _checked(
    source: str, rows: Iterator[Raw], on_reject: OnReject
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(line, object, its JSON) of the rows that are sound; the rest is rejected."""
    for raw in rows:
        if raw.error is not None or raw.value is None:
            assert raw.error is not None
            on_reject(_reject(source, raw.line, raw.error, raw.excerpt))
            continue
        try:
            value, written = _plain(raw.value)
        except RecordError as error:
            on_reject(_reject(source, raw.line, error, ""))
            continue
        yield raw.line, value, written


def _plain(value: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The row as plain JSON values, and as text; Parquet also holds times and bytes."""
    try:
        written = canonical_json(value)
    except TypeError:
        try:
            value = json.loads(json.dumps(value, default=_json_value))
        except UnicodeDecodeError as error:
            raise RecordError("bad-utf8", "a bytes column is not UTF-8") from error
        written = canonical_json(value)
    except RecursionError as error:
        raise RecordError("broken-json", "the row is nested too deeply") from error
    check_unicode(written)
    return value, written


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.isoformat() if isinstance(value, date) else str(value)


def _reject(source: str, line: int, error: RecordError, excerpt: str) -> Reject:
    detail = " ".join(str(error).encode("utf-8", "replace").decode().split())
    return Reject(source, line, error.reason, detail, excerpt)
