"""Which language a text is in."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from palate.config import nearest

_NEEDED = 'instructions about language need py3langid: pip install "palate[following]"'


def reads_as(text: str, language: str) -> bool:
    """Whether the likeliest language of the text is this one (ISO 639-1).

    A text without a letter is in no language and passes, as it does in IFEval. Raises
    `ValueError` where py3langid is not installed.
    """
    return not any(map(str.isalpha, text)) or _likeliest(text) == language


def code(value: object) -> str:
    """A code of a language, as a setting."""
    known = identifier().labels
    if value not in known:
        raise ValueError(f"a language of ISO 639-1{nearest(str(value), known)}")
    return str(value)


@cache
def identifier() -> Any:  # the library has no types
    """The model, read once; raises `ValueError` without the library."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ValueError(_NEEDED) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)


@lru_cache(maxsize=1024)
def _likeliest(text: str) -> str:
    return str(identifier().classify(text)[0])  # capitals do not matter to it
