"""Containers: which files there are, how they are packed, and the rows inside.

All but documents are streamed: memory does not grow with the file.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from palate.ingest.errors import IngestError
from palate.ingest.tables import TABLES, table_rows
from palate.ingest.text_rows import Raw, csv_rows, document_rows, json_rows, jsonl_rows
from palate.ingest.utf16 import as_utf8
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
# A line that no JSONL has, and with which JSON begins that is laid out over several.
_LAID_OUT = re.compile(rb"\s*(?:\[\s*\{|[\[{]\s*$)")


def files(path: Path) -> list[Path]:
    """The data files that `path` stands for: itself, or those of a folder, sorted by name.

    Of a folder with rows in it, documents (.txt, .md) are none.

    Raises `IngestError` if there is nothing to read.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise IngestError(f"there is no file {path}")
    found = holding_rows(inside(path))
    if not found:
        raise IngestError(f"the folder {path} holds no data file ({', '.join(KINDS)})")
    return found


def inside(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, links followed, without hidden ones; sorted.

    Raises `IngestError` where a folder cannot be looked into: its files would be left out silently.
    """

    def refuse(error: OSError) -> None:
        raise IngestError(f"cannot read {error.filename}: {error.strerror}") from error

    found: list[Path] = []
    been: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [name for name in folders if name[0] != "." and real not in been]
        if real not in been:  # a link may lead in a circle
            found += [Path(root) / name for name in names if name[0] != "."]
        been.add(real)
    # A link that leads nowhere is kept: whoever reads it says so.
    return sorted(p for p in found if p.is_file() or (p.is_symlink() and not p.exists()))


def ignored(path: Path) -> list[Path]:
    """Of a folder, the files of which the name does not say that they hold data."""
    return [file for file in inside(path) if kind_of(file) is None] if path.is_dir() else []


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
        packed = path.suffix.lower() in COMPRESSED
        if kind in TABLES and packed:
            raise IngestError(f"{path} packs a file that packs itself: unpack it, as {path.stem}")
        if kind in TABLES:
            yield from table_rows(path, kind)
            return
        with _open(path) as handle:
            read = _text_rows(kind, handle)
            yield from _guarded(read) if packed else read
    except OSError as error:  # pyarrow's have no strerror, and may say several lines
        why = " ".join((error.strerror or str(error)).split())
        raise IngestError(f"cannot read {path}: {why}") from error


def _text_rows(kind: str, handle: BinaryIO) -> Iterator[Raw]:
    """The rows of a text, by its content where the name is wrong about how JSON is laid out."""
    text = as_utf8(handle)
    if kind == "jsonl":
        start = cast(io.BufferedReader, text).peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
        if _LAID_OUT.match(start.removeprefix(BOM_UTF8).split(b"\n", 1)[0]):
            kind = "json"
    yield from _TEXT_READERS[kind](text)


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
        start = as_utf8(handle).read(SNIFFED_BYTES)
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:6] == b"ARROW1":
        return "arrow"
    kind = {b"[": "json", b"{": "jsonl"}.get(start.removeprefix(BOM_UTF8).lstrip()[:1])
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
