"""Files into the store: read and parsed in a process of its own, written in this one.

Parsing and writing take about as long as each other, so that on two cores an import is nearly
twice as fast. Rows cross in batches, of which a few may wait: memory does not grow with the file.
"""

from __future__ import annotations

import multiprocessing
import queue
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate import __version__
from palate.curate.signals import own_signals
from palate.durable import file_hash
from palate.ingest import IngestError
from palate.ingest.containers import COMPRESSED, ignored
from palate.ingest.read import read_file, sources_of
from palate.ingest.registry import find
from palate.records import Example, Reject
from palate.store.adding import Added, add_rows
from palate.store.database import Store
from palate.store.rows import Row, row_of
from palate.store.sources import add_rejects, complete_source, open_source

BATCH = 4_000  # rows of a transaction
WAITING = 4  # batches that are parsed ahead
SMALL = 4 << 20  # bytes: below, starting a process costs more than it saves
PACKED = 5  # how much larger a compressed file is unpacked, about
_STORES = re.compile(r"\.(db|sqlite3?)(-wal|-shm|-journal)?$")  # beside data lies the store
SHOWN = 200  # characters of why a row was refused, in the line about its file

Advance = Callable[[int, str], None]
File = tuple[str, Path, bool, str]
"""(name for provenance, local path, whether the user named it, format or auto)"""


@dataclass(slots=True)
class Summary:
    """What an import found and did, in rows of files.

    `shapes` and `signals` count examples and what was said of answers, by kind; `rejected` rows
    by reason; `skipped` are files whose content had been imported before, `ignored` those of a
    folder that are no data by their names.
    """

    files: int = 0
    skipped: list[str] = field(default_factory=list)
    added: Added = field(default_factory=Added)
    shapes: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows that were read, refused ones included."""
        return sum(self.shapes.values()) + sum(self.rejected.values())


class _Ended(IngestError):
    """The parsing process ended before the file did: nothing is known of the rest."""


@dataclass(slots=True)
class _Batch:
    """What the parsing process hands over: rows, refusals, counts, and how far it has read."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)


def import_paths(
    store: Store,
    paths: Sequence[str],
    format: str = "auto",
    *,
    on_reject: Callable[[Reject], None] = lambda reject: None,
    advance: Advance = lambda rows, info: None,
) -> Summary:
    """Import files, folders and hub data sets; each file by itself, each content once.

    A file of which nothing can be read is a problem in the summary where others could be, else an
    `IngestError`. What an interrupted import has written stays, and is met again the next time.
    `advance` gets the rows read since it was last called, and the file's name.
    """
    summary = Summary()
    if format != "auto":
        find(format)
    sources = [source for path in paths for source in sources_of(path)]
    passed = (file for path in paths for file in ignored(Path(path).expanduser()))
    summary.ignored = [file for file in passed if not _STORES.search(file.name)]
    for name, path, named in sources:
        try:
            source = open_source(store, name, _hash(path))
            if source.completed is not None and _same_reading(source.summary or {}, format):
                summary.skipped.append(name)
                continue
            _import_file(store, source.id, (name, path, named, format), summary, on_reject, advance)
        except IngestError as error:
            if len(sources) == 1:
                raise
            summary.problems.append(str(error))
    if summary.problems and not summary.files and not summary.skipped:
        raise IngestError("; ".join(summary.problems))
    return summary


def _same_reading(before: dict[str, Any], format: str) -> bool:
    """Whether reading the file again would find the same.

    Another format may find more, and so may a newer Palate after rows that were refused. Where
    nothing was usable, reading it again is what says why.
    """
    as_now = before.get("version") == __version__ or not before.get("rejected")
    return before.get("format") == format and as_now and not before.get("unusable")


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise IngestError(f"cannot read {path}: {error.strerror or error}") from error


def _import_file(
    store: Store,
    source: int,
    file: File,
    summary: Summary,
    on_reject: Callable[[Reject], None],
    advance: Advance,
) -> None:
    mine = Summary(files=1)
    how: dict[str, Any] = {"format": file[3], "version": __version__}
    try:
        _write_batches(store, source, file, mine, on_reject, advance)
    except _Ended:
        raise
    except IngestError:
        if not mine.shapes:
            complete_source(store, source, {**_counted(mine), **how, "unusable": True})
        raise
    complete_source(store, source, {**_counted(mine), **how})
    summary.files += 1
    summary.added += mine.added
    summary.shapes += mine.shapes
    summary.signals += mine.signals
    summary.rejected += mine.rejected


def _write_batches(
    store: Store,
    source: int,
    file: File,
    mine: Summary,
    on_reject: Callable[[Reject], None],
    advance: Advance,
) -> None:
    """Write what is read, and count it in `mine`; `IngestError` if no row was usable."""
    first: Reject | None = None
    with _batches(file) as batches:
        for batch in batches:
            mine.added += add_rows(store, batch.rows, source)
            add_rejects(store, source, batch.rejects)
            mine.shapes += batch.shapes
            mine.signals += batch.signals
            mine.rejected += Counter(reject.reason for reject in batch.rejects)
            for reject in batch.rejects:
                first = first or reject
                on_reject(reject)
            advance(len(batch.rows) + len(batch.rejects), file[0])
    if mine.shapes:
        return
    if first is None:
        raise IngestError(f"no usable row in {file[0]}: there is no row at all")
    reasons = ", ".join(f"{reason} {count}" for reason, count in mine.rejected.most_common())
    why = first.detail if len(first.detail) <= SHOWN else f"{first.detail[:SHOWN]}…"
    raise IngestError(f"no usable row in {file[0]}: {reasons} (first at line {first.line}: {why})")


def _counted(mine: Summary) -> dict[str, Any]:
    return {"rows": mine.rows, "rejected": dict(mine.rejected)}


def _parsed(file: File) -> Iterator[_Batch]:
    """The file's rows in batches, each with what was refused among them."""
    name, path, named, format = file
    batch = _Batch()

    def refuse(reject: Reject) -> None:
        batch.rejects.append(reject)

    chosen = None if format == "auto" else find(format)
    for arrival in read_file(name, path, named, chosen, refuse):
        batch.rows.append(row_of(arrival))
        record = arrival.record
        if isinstance(record, Example):
            batch.shapes[record.shape] += 1
            batch.signals.update(signal.kind for signal in own_signals(record))
        else:
            batch.shapes["signal"] += 1
            batch.signals[record.kind] += 1
        if len(batch.rows) + len(batch.rejects) >= BATCH:
            yield batch
            batch = _Batch()
    yield batch


@contextmanager
def _batches(file: File) -> Iterator[Iterator[_Batch]]:
    """The batches of a file; of a large one, from a process that parses ahead."""
    packed = PACKED if file[1].suffix.lower() in COMPRESSED else 1
    if file[1].stat().st_size * packed < SMALL:
        yield _parsed(file)
        return
    context = multiprocessing.get_context("spawn")
    batches: Any = context.Queue(WAITING)
    process = context.Process(target=_parse, args=(file, batches), daemon=True)
    process.start()
    try:
        yield _received(process, batches, file[0])
    finally:
        process.terminate()
        process.join()


def _parse(file: File, batches: Any) -> None:
    """What the parsing process does; its last word is None, or the error."""
    try:
        for batch in _parsed(file):
            batches.put(batch)
        batches.put(None)
    except IngestError as error:
        batches.put(IngestError(str(error)))
    except Exception as error:
        batches.put(_Ended(f"reading {file[0]} failed: {type(error).__name__}: {error}"))
        raise


def _received(process: Any, batches: Any, name: str) -> Iterator[_Batch]:
    while True:
        try:
            found = batches.get(timeout=1.0)
        except queue.Empty:
            if process.is_alive() or not batches.empty():
                continue
            raise _Ended(
                f"the process that reads {name} ended with code {process.exitcode}, perhaps for "
                "want of memory: what was read before is kept, and importing again goes on"
            ) from None
        if found is None:
            return
        if isinstance(found, IngestError):
            raise found
        yield found
