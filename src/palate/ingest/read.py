"""Path in, records out: the one way into the program for data in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

from palate.ingest import containers, hub, otlp, registry
from palate.ingest.canonical import canonical, check_finite, is_suspect, too_deep
from palate.ingest.errors import IngestError
from palate.ingest.format import Format, Row
from palate.ingest.text_rows import EXCERPT, Raw
from palate.records import (
    Arrival,
    Example,
    Provenance,
    RecordError,
    Reject,
    Signal,
    canonical_json,
)

SNIFFED_ROWS = 32
MOST_SNIFFED = 1024  # where none of the first is known: traces begin with spans of other kinds

OnReject = Callable[[Reject], None]
Checked = tuple[int, Row, bytes]
"""(line, object, its canonical JSON)"""


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
    sources = [source for path in given for source in sources_of(path)]
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


def sources_of(path: str | Path) -> Iterable[tuple[str, Path, bool]]:
    """(name for provenance, local file, whether the file was named by the user)."""
    if str(path).startswith(hub.PREFIX):
        return [(name, local, False) for name, local in hub.fetch(str(path))]
    given = Path(path).expanduser()
    return [(_written(file), file, file == given) for file in containers.files(given)]


def _written(path: Path) -> str:
    """The path as text that can be stored: bytes of a name that are not UTF-8 are spelled out."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_all(
    sources: list[tuple[str, Path, bool]],
    chosen: Format | None,
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
        for arrival in read_file(name, path, named, chosen, count):
            usable = True
            yield arrival
    if not usable:
        raise IngestError(f"no usable row in {names}: {_why(dropped, first)}")


def _why(dropped: Counter[str], first: list[Reject]) -> str:
    if not first:
        return "there is no row at all"
    reasons = ", ".join(f"{reason} {number}" for reason, number in dropped.most_common())
    return f"{reasons} (first at line {first[0].line}: {first[0].detail})"


def read_file(
    source: str,
    path: Path,
    named: bool,
    chosen: Format | None,
    on_reject: OnReject,
) -> Iterator[Arrival]:
    """The records of one file that is called `source`; see `read_arrivals`.

    A file that matches no format is an error if the user `named` it, else a reject.
    """
    rows = _checked(source, containers.rows(path), on_reject)
    head, known = _sniffed(rows) if chosen is None else ([], chosen)
    if known is None:
        if not head:
            return
        why = registry.no_match([value for _, value, _ in head[:SNIFFED_ROWS]])
        if named:
            raise IngestError(f"{source} {why}")
        on_reject(Reject(source, 1, "unknown-format", f"the file {why}"))
        return
    for line, value, written in chain(head, rows):
        try:
            records = known.parse(value)
            ids, user = known.ids(value), known.user(value)
            where = Provenance(source, line, known.time(value), sha256(written).hexdigest())
            if is_suspect(written):
                check_finite(records)
        except RecordError as error:
            on_reject(_reject(source, line, error, written))
            continue
        except RecursionError:  # JSON within the texts of a row may be deep as well
            on_reject(_reject(source, line, too_deep(), written))
            continue
        for record in records:
            yield Arrival(_placed(record, where), ids, user)


def _sniffed(rows: Iterator[Checked]) -> tuple[list[Checked], Format | None]:
    """The rows that were looked at, and the format of most; None if all are of none."""
    head: list[Checked] = []
    while len(head) < MOST_SNIFFED and (more := list(islice(rows, SNIFFED_ROWS))):
        head += more
        if (known := registry.sniff([value for _, value, _ in more])) is not None:
            return head, known
    return head, None


def _placed(record: Example | Signal, where: Provenance) -> Example | Signal:
    """The record with the place it came from."""
    if isinstance(record, Signal):
        return replace(record, provenance=(where,))
    said = (record.prompt, record.completions, record.verdict, record.tools, record.tags)
    return Example(*said, (where,))


def _checked(source: str, rows: Iterator[Raw], on_reject: OnReject) -> Iterator[Checked]:
    """The rows that are sound; the rest is rejected.

    A batch of OpenTelemetry's is as many rows as it holds spans, all of the same line.
    """
    for raw in rows:
        if raw.value is None:
            assert raw.error is not None
            on_reject(Reject(source, raw.line, raw.error.reason, _detail(raw.error), raw.excerpt))
            continue
        try:
            value, written = canonical(raw.value, plain=raw.plain)
        except RecordError as error:
            on_reject(_reject(source, raw.line, error))
            continue
        if otlp.is_batch(value):
            spans = list(otlp.rows_of(value))
            if not spans:
                why = RecordError("no-model-call", "the batch holds neither spans nor events")
                on_reject(_reject(source, raw.line, why, written))
            for span in spans:
                yield raw.line, span, canonical_json(span).encode()
        else:
            yield raw.line, value, written


def _reject(source: str, line: int, error: RecordError, written: bytes = b"") -> Reject:
    excerpt = written[: 4 * EXCERPT].decode("utf-8", "ignore")[:EXCERPT]
    return Reject(source, line, error.reason, _detail(error), excerpt)


def _detail(error: RecordError) -> str:
    return " ".join(str(error).encode("utf-8", "replace").decode().split())
