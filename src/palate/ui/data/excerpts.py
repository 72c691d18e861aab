"""Excerpts: a piece of a text around what was looked for, in parts that say whether they match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_AROUND = 90  # characters on either side of the first match
_WIDTH = 240  # characters of an excerpt

Part = dict[str, Any]
"""``{"text": …, "hit": bool}``; the texts of all parts joined are the excerpt."""


def marked(text: str, words: str) -> list[Part]:
    """The text in parts, those that hold the words apart, in any letter case."""
    if not words:
        return [{"text": text, "hit": False}] if text else []
    return [part for part in _parts(text, words.lower()) if part["text"]]


def excerpt(texts: Iterable[str], words: str) -> list[Part]:
    """A line out of the first text that holds the words, else out of the last text that has any."""
    flat = [line for line in (" ".join(text.split()) for text in texts) if line]
    if not flat:
        return []
    wanted = " ".join(words.lower().split())
    chosen = next((line for line in flat if wanted and wanted in line.lower()), flat[-1])
    at = chosen.lower().find(wanted) if wanted else 0
    start = max(0, at - _AROUND)
    piece = chosen[start : start + _WIDTH]
    head, tail = "…" if start else "", "…" if start + _WIDTH < len(chosen) else ""
    return marked(f"{head}{piece}{tail}", wanted)


def _parts(text: str, wanted: str) -> Iterator[Part]:
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that has two in lower case would shift all places
        lowered = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    at = 0
    while (found := lowered.find(wanted, at)) >= 0:
        yield {"text": text[at:found], "hit": False}
        yield {"text": text[found : found + len(wanted)], "hit": True}
        at = found + len(wanted)
    yield {"text": text[at:], "hit": False}
