"""What is taken out of a row before it reaches a disk: keys always, and what `redact` names."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from palate.config import ConfigError
from palate.records import RecordError

Found = TypeVar("Found")
Redact = Callable[[str], str]
PERSONAL = "personal"
"""The redaction of `palate.curate.personal`: what it finds becomes `<EMAIL_ADDRESS>` and so on."""

KEY = "[key]"
"""What stands in a text where a credential was."""

# Names, and what developers wrote: no words of a user. The user and the conversation must stay
# what they are, or nothing could be deleted by user and no conversation followed.
NOT_REDACTED = frozenset(
    {
        *("id", "object", "model", "role", "type", "name", "user", "conversation_id", "time"),
        *("finish_reason", "stop_reason", "tool_call_id", "tool_use_id", "system_fingerprint"),
        *("service_tier", "signature", "feedback_id", "tools", "functions", "tool_choice"),
        "response_format",
    }
)
_REMEMBERED = 4096  # texts: a conversation sends its earlier turns again with each new one
_LONGEST_REMEMBERED = 20_000  # characters


class Cleaner:
    """Takes the exchange's keys out of every text of a row, and redacts its words.

    `begin` gives the function that redacts the texts of one row.
    """

    def __init__(self, begin: Callable[[], Redact] | None) -> None:
        self._begin = begin

    def clean(self, row: dict[str, Any], keys: Sequence[str] = ()) -> dict[str, Any]:
        """The row, cleaned; `RecordError` under ``redaction-failed`` if the function raises."""
        if not keys and self._begin is None:
            return row
        redact = self._begin() if self._begin is not None else None
        cleaned: dict[str, Any] = _clean(row, keys, redact)
        return cleaned


def _clean(value: Any, keys: Sequence[str], redact: Redact | None) -> Any:
    if isinstance(value, str):
        for key in keys:
            value = value.replace(key, KEY)
        return _redacted(value, redact) if redact and value.strip() else value
    if isinstance(value, list):
        return [_clean(item, keys, redact) for item in value]
    if isinstance(value, dict):
        return {
            _clean(name, keys, None): _clean(item, keys, None if name in NOT_REDACTED else redact)
            for name, item in value.items()
        }
    return value


def _redacted(text: str, redact: Redact) -> str:
    try:
        found = redact(text)
    except Exception as error:  # noqa: BLE001 - somebody else's; its message may hold the text
        name = type(error).__name__
        raise RecordError("redaction-failed", f"the redaction raised {name}") from None
    if not isinstance(found, str):
        raise RecordError("redaction-failed", "the redaction gave something else than text")
    return found


def load_redaction(spec: str | None) -> Callable[[], Redact] | None:
    """What gives the function that redacts one row, by the setting `redact`.

    Raises `ConfigError` for a function that is not there, `ValueError` for a package that is not.
    """
    if spec is None:
        return None
    if spec == PERSONAL:
        from palate.curate.personal import Redaction, personal_search

        search = _remembering(personal_search())
        return lambda: Redaction(search).value  # the same name for a value throughout the row
    place, _, name = spec.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(f"redact: '{spec}' is not personal, module:function or file.py:function")
    load = _from_file if place.endswith(".py") else importlib.import_module
    try:
        module = load(place)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"redact: cannot load {place}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"redact: {place} has no function '{name}'")
    redact: Redact = _remembering(found)
    return lambda: redact


def _remembering(function: Callable[[str], Found]) -> Callable[[str], Found]:
    """The function, which is asked once for a text that comes again soon."""
    remembered = lru_cache(_REMEMBERED)(function)

    def call(text: str) -> Found:
        return function(text) if len(text) > _LONGEST_REMEMBERED else remembered(text)

    return call


def _from_file(place: str) -> Any:
    path = Path(place)
    spec = importlib.util.spec_from_file_location(f"palate_redact_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
