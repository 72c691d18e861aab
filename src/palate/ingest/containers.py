"""Containers: which files there are, how they are packed, and the rows inside.

All but documents are streamed: memory does not grow with the file.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from palate.ingest.errors import IngestError
from palate.ingest.text_rows import Raw, csv_rows, document_rows, json_rows, jsonl_rows
from palate.records import RecordError

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
}
_TEXT_READERS = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "text": document_rows,
}
COMPRESSED = (".gz", ".zst")
SNIFFED_BYTES = 4096
TABLE_ROWS = 256  # of a columnar file that are Python objects at a time


def files(path: Path) -> list[Path]:
    """The data files that `path` stands for: itself, or those of a folder, sorted by name.

    Of a folder with rows in it, documents (.txt, .md) are none.

    Raises `IngestError` if there is nothing to read.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise IngestError(f"there is no file {path}")
    inside = (p.relative_to(path) for p in sorted(path.rglob("*")) if p.is_file())
    found = holding_rows(path / p for p in inside if not any(x[0] == "." for x in p.parts))
    if not found:
        raise IngestError(f"the folder {path} holds no data file ({', '.join(KINDS)})")
    return found


def holding_rows(paths: Iterable[Path]) -> list[Path]:
    """Those that hold rows, or documents where none does: beside rows lies a README."""
    known = [path for path in paths if kind_of(path)]
    return [path for path in known if kind_of(path) != "text"] or known


def kind_of(path: Path) -> str | None:
    """What is inside (`jsonl`, `csv`, …) by the file's name; None if the name does not tell."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def rows(path: Path) -> Iterator[Raw]:
    """The rows of one file; `IngestError` if the file as a whole cannot be read."""
    try:
        kind = kind_of(path) or _kind_by_content(path)
        if kind in _TABLES:
            yield from _table(path, _TABLES[kind])
            return
        with _open(path) as handle:
            read = _TEXT_READERS[kind](handle)
            yield from _guarded(read) if path.suffix.lower() in COMPRESSED else read
    except OSError as error:
        raise IngestError(f"cannot read {path}: {error.strerror or error}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".zst":
        import pyarrow as pa  # the only decoder of Zstandard that is always installed

        stream = pa.input_stream(str(path), compression="zstd")
        return cast(BinaryIO, io.BufferedReader(stream))
    return path.open("rb")


def _kind_by_content(path: Path) -> str:
    with _open(path) as handle:
        start = handle.read(SNIFFED_BYTES)
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:6] == b"ARROW1":
        return "arrow"
    kind = {b"[": "json", b"{": "jsonl"}.get(start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1])
    if kind is None:
        raise IngestError(
            f"{path} is none of the containers that are read: name it {', '.join(KINDS)}"
        )
    return kind


def _guarded(read: Iterator[Raw]) -> Iterator[Raw]:
    """A damaged archive ends the file, not the import: what came before it stays."""
    line = 0
    try:
        for raw in read:
            line = raw.line
            yield raw
    except (EOFError, zlib.error, OSError) as error:
        why = RecordError("broken-archive", f"the archive is damaged after this line: {error}")
        yield Raw(line + 1, error=why)


def _table(path: Path, batches: Callable[[Path], Iterator[Any]]) -> Iterator[Raw]:
    """The rows of a columnar file, a few hundred in memory at a time."""
    import pyarrow as pa

    row = 0
    try:
        for batch in batches(path):
            for at in range(0, batch.num_rows, TABLE_ROWS):
                for value in batch.slice(at, TABLE_ROWS).to_pylist():
                    row += 1
                    yield Raw(row, value)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        why = next(iter(str(error).splitlines()), "")
        raise IngestError(f"cannot read {path} after row {row}: {why}") from error


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=TABLE_ROWS)


def _arrow(path: Path) -> Iterator[Any]:
    """Batches of Arrow's IPC format: a file (Feather too), or a stream, as `datasets` writes it."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
        else:
            yield from (file.get_batch(index) for index in range(file.num_record_batches))


_TABLES = {"parquet": _parquet, "arrow": _arrow}
