"""Rows out of text: JSONL, JSON, CSV, and documents, each of which is one row.

What cannot be read as a row comes out as a `Raw` with an error, and reading goes on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from palate.records import RecordError

EXCERPT = 200
LARGEST_CELL = 1 << 24  # characters; Python's own limit of 131072 is short for a conversation


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it stood: its 1-based line (or row), and the object or why there is none."""

    line: int
    value: dict[str, Any] | None = None
    error: RecordError | None = None
    excerpt: str = ""


def _object(line: int, value: object, excerpt: str) -> Raw:
    if isinstance(value, dict):
        return Raw(line, value)
    return Raw(line, error=RecordError("not-an-object", "not a JSON object"), excerpt=excerpt)


def jsonl_rows(handle: BinaryIO) -> Iterator[Raw]:
    """One JSON object a line; blank lines are no rows."""
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


def json_rows(handle: BinaryIO) -> Iterator[Raw]:
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


def csv_rows(handle: BinaryIO) -> Iterator[Raw]:
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


def document_rows(handle: BinaryIO) -> Iterator[Raw]:
    """The whole file as one row, `{"text": …}`."""
    raw = handle.read()
    try:
        yield Raw(1, {"text": raw.decode("utf-8-sig")})
    except UnicodeDecodeError as error:
        why = RecordError("bad-utf8", f"byte {error.start} of the file is not UTF-8")
        yield Raw(1, error=why, excerpt=raw[:EXCERPT].decode("utf-8", "replace"))
