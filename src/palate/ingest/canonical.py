"""A row as plain JSON values and as canonical JSON, of which its hash is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date
from typing import Any

import orjson

from palate.ingest.format import Row
from palate.records import Example, RecordError, Signal, canonical_json

DEEPEST = 254  # lists and objects within each other: as deep as orjson writes
_EXPONENT = re.compile(rb"[:,\[]-?[0-9.]+e")
_HUGE = b"0" * 309  # digits, of which the largest float has as many
# Digits as 0 and the letter e, all else blank: where no "0e" is, no number has an exponent.
_NUMBERS = bytes(48 if 48 <= code < 58 else 101 if code == 101 else 32 for code in range(256))


def canonical(value: Row, *, plain: bool) -> tuple[Row, bytes]:
    """The row as plain JSON values, and as the JSON that `canonical_json` writes, in UTF-8.

    `plain` says that it holds only such values already, and finite numbers of 64 bits; else it
    may hold the times and bytes of Parquet. Equal rows give equal JSON, wherever they came from.
    Raises `RecordError`: ``bad-unicode`` for half a surrogate pair, which JSON can escape and no
    tokenizer can read, ``bad-utf8`` for bytes, ``broken-json`` for a row nested too deeply.
    """
    if plain and (written := _quickly(value)) is not None:
        return value, written
    try:
        text = canonical_json(value)
    except TypeError:
        try:
            value = json.loads(json.dumps(value, default=_json_value))
        except UnicodeDecodeError as error:
            raise RecordError("bad-utf8", "a bytes column is not UTF-8") from error
        text = canonical_json(value)
    except RecursionError as error:
        raise too_deep() from error
    check_unicode(text)
    if text.count("[") + text.count("{") > DEEPEST and depth(value) > DEEPEST:
        raise too_deep()
    return value, text.encode()


def check_unicode(text: str) -> None:
    """Refuse half a surrogate pair, which JSON can escape: no tokenizer can read it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError("bad-unicode", "the row holds half of a surrogate pair") from error


def is_suspect(written: bytes) -> bool:
    """Whether a row may hold a number that `check_finite` refuses."""
    huge = _HUGE in written.translate(_NUMBERS)
    return huge or b"NaN" in written or b"Infinity" in written


def check_finite(records: Iterable[Example | Signal]) -> None:
    """Refuse NaN, infinity and what no float can hold, where they came as far as a record.

    JSON cannot hold the former, and few programs read the latter, the store's among them.
    """
    try:
        orjson.loads(json.dumps([record.to_dict() for record in records], allow_nan=False))
    except ValueError as error:
        why = "a tool or a call holds NaN, infinity or a number of more than 308 digits"
        raise RecordError("bad-number", why) from error


def too_deep() -> RecordError:
    """The reason of a row that is nested too deeply to be read."""
    return RecordError("broken-json", "the row is nested too deeply")


def _quickly(value: Row) -> bytes | None:
    """The same JSON from orjson; None where it writes a number in another way."""
    try:
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        if "Recursion" in str(error):
            raise too_deep() from error
        return None
    if b"0.0000" in written:  # where Python begins to write an exponent
        return None
    suspect = b"0e" in written.translate(_NUMBERS)
    return None if suspect and _EXPONENT.search(written) else written


def depth(value: Any) -> int:
    """How many lists and objects lie within each other."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.isoformat() if isinstance(value, date) else str(value)
