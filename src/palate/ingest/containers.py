"""Containers: rows out of JSONL, JSON, Parquet, CSV and TSV, plain or compressed.

What cannot be read as a row comes out as a `Raw` with an error, and reading goes on. JSONL,
CSV and Parquet are streamed: memory does not grow with the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from palate.ingest.errors import IngestError
from palate.records import RecordError

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
}
COMPRESSED = (".gz", ".zst")
EXCERPT = 200
SNIFFED_BYTES = 4096
LARGEST_CELL = 1 << 24  # characters; Python's own limit of 131072 is short for a conversation


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it stood: its 1-based line (or row), and the object or why there is none."""

    line: int
    value: dict[str, Any] | None = None
    error: RecordError | None = None
    excerpt: str = ""


def files(path: Path) -> list[Path]:
    """The data files that `path` stands for: itself, or those of a folder, sorted by name.

    Raises `IngestError` if there is nothing to read.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise IngestError(f"there is no file {path}")
    inside = (p.relative_to(path) for p in sorted(path.rglob("*")) if p.is_file())
    found = [path / p for p in inside if kind_of(p) and not any(x[0] == "." for x in p.parts)]
    if not found:
        raise IngestError(f"the folder {path} holds no data file ({', '.join(KINDS)})")
    return found


def kind_of(path: Path) -> str | None:
    """`jsonl`, `json`, `parquet` or `csv` by the file's name; None if the name does not tell."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def rows(path: Path) -> Iterator[Raw]:
    """The rows of one file; `IngestError` if the file as a whole cannot be read."""
    try:
        kind = kind_of(path) or _kind_by_content(path)
        if kind == "parquet":
            yield from _parquet(path)
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


def _object(line: int, value: object, excerpt: str) -> Raw:
    if isinstance(value, dict):
        return Raw(line, value)
    return Raw(line, error=RecordError("not-an-object", "not a JSON object"), excerpt=excerpt)


def _jsonl(handle: BinaryIO) -> Iterator[Raw]:
    for line, raw in enumerate(handle, 1):
        written = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
        if not written.strip():
            continue
        excerpt = written[: 4 * EXCERPT].decode("utf-8", "replace").strip()[:EXCERPT]
        try:
            yield _object(line, json.loads(written.decode("utf-8")), excerpt)
        except UnicodeDecodeError as error:
            why = RecordError("bad-utf8", f"byte {error.start} of the line is not UTF-8")
            yield Raw(line, error=why, excerpt=excerpt)
        except (ValueError, RecursionError) as error:
            yield Raw(line, error=RecordError("broken-json", str(error)), excerpt=excerpt)


def _json(handle: BinaryIO) -> Iterator[Raw]:
    """A JSON array of rows, or objects one after the other; numbered by row.

    A broken object costs one row; a broken array ends there, since nothing says where its
    next row would begin.
    """
    text = handle.read().decode("utf-8-sig", "surrogateescape")
    decoder = json.JSONDecoder()
    start = _skip(text, 0, " \t\r\n")
    in_array = text[start : start + 1] == "["
    position, row = _skip(text, start + in_array, " \t\r\n,"), 0
    while position < len(text) and not (in_array and text[position] == "]"):
        row += 1
        excerpt = text[position : position + EXCERPT].encode("utf-8", "replace").decode()
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield Raw(row, error=RecordError("broken-json", str(error)), excerpt=excerpt)
            end = text.find("\n{", position)
            if in_array or end < 0:
                return
        else:
            yield _decoded_strictly(_object(row, value, excerpt), text[position:end])
        position = _skip(text, end, " \t\r\n,")
    if in_array and position >= len(text):
        why = RecordError("broken-json", "the array is not closed: the file may be cut short")
        yield Raw(row + 1, error=why)


def _skip(text: str, position: int, blank: str) -> int:
    while position < len(text) and text[position] in blank:
        position += 1
    return position


def _decoded_strictly(raw: Raw, text: str) -> Raw:
    """The row, unless its text holds bytes that were not UTF-8 (escaped as lone surrogates)."""
    if raw.error is None and not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            excerpt = text[:EXCERPT].encode("utf-8", "replace").decode()
            why = RecordError("bad-utf8", "the row holds bytes that are not UTF-8")
            return Raw(raw.line, error=why, excerpt=excerpt)
    return raw


def _csv(handle: BinaryIO) -> Iterator[Raw]:
    """Rows under a header; the separator is the one the header uses. Numbered by line."""
    csv.field_size_limit(LARGEST_CELL)
    text = io.TextIOWrapper(handle, "utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    separator = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], text), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(line, error=RecordError("broken-csv", str(error)))
            continue
        if header is None:
            header = cells
            if len(set(header)) < len(header):
                why = RecordError("broken-csv", "two columns have the same name")
                yield Raw(line, error=why)
                return
        elif any(cells):
            yield _csv_row(line, header, cells, separator)


def _csv_row(line: int, header: list[str], cells: list[str], separator: str) -> Raw:
    written = separator.join(cells)
    excerpt = written[:EXCERPT].encode("utf-8", "replace").decode()
    if len(cells) != len(header):
        why = RecordError("broken-csv", f"{len(cells)} cells under {len(header)} columns")
        return Raw(line, error=why, excerpt=excerpt)
    return _decoded_strictly(Raw(line, dict(zip(header, cells, strict=True))), written)


def _parquet(path: Path) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    row += 1
                    yield Raw(row, value)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise IngestError(f"cannot read {path} after row {row}: {error}") from error


_TEXT_READERS: dict[str, Callable[[BinaryIO], Iterator[Raw]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
}
