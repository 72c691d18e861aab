"""Words: what lint counts, compares and learns from."""

from __future__ import annotations

import hashlib
import re

# Scripts that write no spaces between words: each character counts as one.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['\u2019][^\W_{_UNSPACED}]+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case; in scripts without spaces, its characters."""
    return _WORD.findall(text.lower())


def count_words(text: str) -> int:
    """How many there are."""
    return sum(1 for _ in _WORD.finditer(text))


def key(text: str) -> bytes:
    """Equal for texts with the same words; a text without any is compared as it is."""
    said = " ".join(words(text)) or text
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()
