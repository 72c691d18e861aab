"""Rows out of text: JSONL, JSON, CSV, and documents, each of which is one row.

What cannot be read as a row comes out as a `Raw` with an error, and reading goes on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO, TextIO

import orjson

from palate.records import RecordError

EXCERPT = 200
LARGEST_CELL = 1 << 24  # characters; Python's own limit of 131072 is short for a conversation
_CHUNK = 1 << 20  # characters of a JSON array that are read at a time
# Digits as 0, the letter e as e, all else blank: what a text says of its numbers.
_NUMBERS = bytes(48 if 48 <= code < 58 else 101 if chr(code) in "eE" else 32 for code in range(256))
_LONG_NUMBER = b"0" * 20  # which orjson would round


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it stood: its 1-based line (or row), and the object or why there is none.

    `plain` says that the object holds finite numbers of 64 bits and nothing but JSON's values.
    """

    line: int
    value: dict[str, Any] | None = None
    error: RecordError | None = None
    excerpt: str = ""
    plain: bool = field(default=False, compare=False)


def _object(line: int, value: object, excerpt: str, plain: bool = False) -> Raw:
    if isinstance(value, dict):
        return Raw(line, value, plain=plain)
    return Raw(line, error=RecordError("not-an-object", "not a JSON object"), excerpt=excerpt)


def jsonl_rows(handle: BinaryIO) -> Iterator[Raw]:
    """One JSON object a line; blank lines are no rows."""
    for line, raw in enumerate(handle, 1):
        if _LONG_NUMBER not in raw.translate(_NUMBERS):
            try:
                value = orjson.loads(raw)
            except ValueError:
                pass  # read again below, where NaN is a number and an error says more
            else:
                excerpt = "" if isinstance(value, dict) else _excerpt(raw)
                yield _object(line, value, excerpt, plain=True)
                continue
        written = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
        if written.strip():
            yield _read_again(line, written)


def _read_again(line: int, written: bytes) -> Raw:
    """A line that the fast decoder does not take, or would round."""
    excerpt = _excerpt(written)
    try:
        return _object(line, json.loads(written.decode("utf-8")), excerpt)
    except UnicodeDecodeError as error:
        why = RecordError("bad-utf8", f"byte {error.start} of the line is not UTF-8")
        return Raw(line, error=why, excerpt=excerpt)
    except (ValueError, RecursionError) as error:
        return Raw(line, error=RecordError("broken-json", str(error)), excerpt=excerpt)


def _excerpt(written: bytes) -> str:
    return written[: 4 * EXCERPT].decode("utf-8", "replace").strip()[:EXCERPT]


class _Window:
    """The part of a text that is being decoded; what lies before it is forgotten."""

    def __init__(self, source: TextIO) -> None:
        self.source, self.text, self.position, self.before = source, "", 0, 0
        self.done = False
        self.decoder = json.JSONDecoder()

    def fill(self) -> bool:
        """Take in as much again as is waiting, a chunk at least; False at the end of the text."""
        waiting = len(self.text) - self.position
        more = "" if self.done else self.source.read(max(_CHUNK, waiting))
        self.done = self.done or not more
        self.before += self.position
        self.text, self.position = self.text[self.position :] + more, 0
        return bool(more)

    def skip(self, blank: str) -> str:
        """Go past the blanks; the character after them, or nothing at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in blank:
                self.position += 1
            if self.position < len(self.text) or not self.fill():
                return self.text[self.position : self.position + 1]

    def decode(self) -> tuple[Any, str]:
        """The value that begins here and its text; `ValueError` if there is none."""
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self.text) - 16 or error.msg.startswith("Unterminated")
                if not (cut and self.fill()):
                    place = self.before + error.pos
                    raise ValueError(f"{error.msg} (character {place})") from error
            else:
                if end == len(self.text) and not isinstance(value, dict | list) and self.fill():
                    continue  # a number may go on
                written, self.position = self.text[self.position : end], end
                return value, written

    def find(self, mark: str) -> bool:
        """Go to the next place where `mark` stands."""
        while (at := self.text.find(mark, self.position)) < 0:
            self.position = max(self.position, len(self.text) - len(mark) + 1)
            if not self.fill():
                return False
        self.position = at
        return True


def json_rows(handle: BinaryIO) -> Iterator[Raw]:
    """JSON arrays of rows, or objects one after the other; numbered by row.

    A broken object costs one row; a broken array ends there, since nothing says where its
    next row would begin. Memory does not grow with the file, only with its largest row.
    """
    text = io.TextIOWrapper(handle, "utf-8-sig", errors="surrogateescape", newline="")
    window, row, in_array = _Window(text), 0, False
    while first := window.skip(" \t\r\n,"):
        if first in ("]" if in_array else "["):  # arrays may follow each other, as after `cat`
            in_array = not in_array
            window.position += 1
            continue
        row += 1
        begin = window.text[window.position : window.position + EXCERPT]
        excerpt = begin.encode("utf-8", "replace").decode()
        try:
            value, written = window.decode()
        except (ValueError, RecursionError) as error:
            yield Raw(row, error=RecordError("broken-json", str(error)), excerpt=excerpt)
            if in_array or not window.find("\n{"):
                return
        else:
            yield _decoded_strictly(_object(row, value, excerpt), written)
    if in_array:
        why = RecordError("broken-json", "the array is not closed: the file may be cut short")
        yield Raw(row + 1, error=why)


def _decoded_strictly(raw: Raw, text: str) -> Raw:
    """The row, unless its text holds bytes that were not UTF-8 (escaped as lone surrogates)."""
    if raw.error is not None:
        return raw
    try:
        written = text.encode("utf-8")
    except UnicodeEncodeError:
        excerpt = text[:EXCERPT].encode("utf-8", "replace").decode()
        why = RecordError("bad-utf8", "the row holds bytes that are not UTF-8")
        return Raw(raw.line, error=why, excerpt=excerpt)
    numbers = written.translate(_NUMBERS)
    exact = _LONG_NUMBER not in numbers and b"0e" not in numbers
    plain = exact and b"NaN" not in written and b"Infinity" not in written
    return Raw(raw.line, raw.value, plain=plain)


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
            yield Raw(line, error=RecordError("broken-csv", _csv_problem(error)))
            continue
        if header is None:
            header = cells
            if len(set(header)) < len(header):
                why = RecordError("broken-csv", "two columns have the same name")
                yield Raw(line, error=why)
                return
        elif any(cells):
            yield _csv_row(line, header, cells, separator)


def _csv_problem(error: csv.Error) -> str:
    """What is wrong, where Python's own words do not tell that more than a row is lost."""
    if "unexpected end of data" in str(error):
        return "a quotation mark is opened here and never closed: all after it is one cell"
    return str(error)


def _csv_row(line: int, header: list[str], cells: list[str], separator: str) -> Raw:
    written = separator.join(cells)
    excerpt = written[:EXCERPT].encode("utf-8", "replace").decode()
    if len(cells) != len(header):
        why = RecordError("broken-csv", f"{len(cells)} cells under {len(header)} columns")
        return Raw(line, error=why, excerpt=excerpt)
    row = dict(zip(header, cells, strict=True))
    return _decoded_strictly(Raw(line, row), written)


def document_rows(handle: BinaryIO) -> Iterator[Raw]:
    """The whole file as one row, `{"text": …}`."""
    raw = handle.read()
    try:
        yield Raw(1, {"text": raw.decode("utf-8-sig")}, plain=True)
    except UnicodeDecodeError as error:
        why = RecordError("bad-utf8", f"byte {error.start} of the file is not UTF-8")
        yield Raw(1, error=why, excerpt=raw[:EXCERPT].decode("utf-8", "replace"))
