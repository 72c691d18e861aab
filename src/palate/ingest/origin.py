"""Where a row comes from in its own system: when it was written, whose it is, what names it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

# Fields that hold when a row was written, as logs and data sets call them.
TIME_FIELDS = ("created", "created_at", "createdAt", "timestamp", "time")
# Fields that hold an end user, or what tells one apart. They never become tags.
USER_FIELDS = (
    "user",
    "user_id",
    "userId",
    "user.id",
    "end_user",
    "end_user_id",
    "enduser.id",
    "safety_identifier",
    "user_email",
    "email",
    "ip",
    "ip_address",
    "hashed_ip",
)
_USERS = frozenset(USER_FIELDS)
_SECONDS = 253_402_300_800  # of the year 10000, since 1970
_COUNTED = re.compile(r"[0-9]{10}(?:[0-9]{3}){0,3}(?:\.[0-9]{1,9})?", re.ASCII)
_FINER = (1, 1_000, 1_000_000, 1_000_000_000)  # seconds, and how many of the units make one
_SHORTEST, _LONGEST = 6, 200  # characters of an id
_SERIAL = 16  # digits: a shorter number may count rows, as long a one is drawn at random
_PROVIDERS = {
    "chatcmpl-": "openai",
    "cmpl-": "openai",
    "resp_": "openai",
    "msg_": "anthropic",
    "gen-": "openrouter",
}


def moment(value: object) -> str | None:
    """A time as ISO 8601 in UTC; text stays as it is, and what is no time is None.

    A number counts seconds since 1970, or milli-, micro- or nanoseconds where as seconds it would
    lie beyond the year 10000. So does a text of as many digits as one of today has: a cell of CSV.
    """
    if isinstance(value, str):
        if not _COUNTED.fullmatch(value):
            return value or None
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    unit = next((finer for finer in _FINER if value < _SECONDS * finer), None)
    if unit is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return datetime.fromtimestamp(value / unit, UTC).isoformat()


def time_in(scope: dict[str, Any], names: Iterable[str] = TIME_FIELDS) -> str | None:
    """The first of the named fields that holds a time."""
    for name in names:
        value = scope.get(name)
        if value is not None and (found := moment(value)) is not None:
            return found
    return None


def user_in(scope: dict[str, Any], names: Iterable[str] = USER_FIELDS) -> str | None:
    """The first of the named fields that holds a user, as text."""
    if names is USER_FIELDS and _USERS.isdisjoint(scope):
        return None
    for name in names:
        value = scope.get(name)
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value) if value.bit_length() <= 64 else None
        if isinstance(value, str) and value.strip():
            return value
    return None


def named(space: str, value: object) -> tuple[str, ...]:
    """``SPACE`` + id as a tuple of one; empty where `value` is not text that names one thing.

    Short ids and plain numbers name another thing in the next file: two interactions would be
    taken for one, and the second would be lost.
    """
    if not isinstance(value, str) or not _SHORTEST <= len(value) <= _LONGEST:
        return ()
    if value.isdigit() and len(value) < _SERIAL:
        return ()
    return (f"{space}{value}",)


def provider_id(value: object) -> tuple[str, ...]:
    """The id that a provider gave its response, under the provider's name where it tells.

    ``chatcmpl-`` with a number of a few digits is left out: Ollama draws it from 999.
    """
    if not isinstance(value, str):
        return ()
    for prefix, space in _PROVIDERS.items():
        if value.startswith(prefix):
            own = value.removeprefix(prefix)
            counted = own.isdigit() and len(own) < _SERIAL
            return named(f"{space}:", value) if own and not counted else ()
    return named("response:", value)
