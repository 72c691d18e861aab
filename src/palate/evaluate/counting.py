"""Words of a text, also of scripts that put no spaces between them."""

from __future__ import annotations

import re

# Thai, Lao, Myanmar, Khmer; kana, Han and their extensions: a character counts as a word there.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """What white space separates; a character each where a script does without it."""
    return _WORD.findall(text)
