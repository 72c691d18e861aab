"""Languages: what was asked and what is to be learned must be in one of those that are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from palate.config import nearest
from palate.curate.rejects import OnReject, reject
from palate.curate.said import asked, learned
from palate.records import Example

FEWEST_LETTERS = 30
"""Letters below which a text is not judged: see docs/curation.md for the measurement."""
_WORTH_THREE = "\u2e80"  # from here on, characters of Chinese, Japanese and Korean
UNLIKELY = 0.1
"""A text is foreign if the wanted languages have less than this probability together."""
_READ = 2000  # characters of a text that are looked at
_NO_LANGUAGE = "zxx"
_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+", re.DOTALL)

Judge = Callable[[str], str | None]


def language_judge(languages: Sequence[str]) -> Judge:
    """A function that names the language of a text that is none of `languages`, else None.

    `languages` are ISO 639 codes that py3langid knows. Code, addresses and texts of fewer than
    `FEWEST_LETTERS` letters are not judged. Raises `ValueError` for an unknown code, and where
    py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ValueError(
            'data.filters.languages needs py3langid: pip install "palate[data]"'
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = {label for label in identifier.labels if label != _NO_LANGUAGE}
    for code in languages:
        if code not in known:
            raise ValueError(
                f"data.filters.languages has the unknown code '{code}'{nearest(code, known)}"
            )
    wanted = {*languages, _NO_LANGUAGE}

    def judge(text: str) -> str | None:
        prose = _NOT_PROSE.sub(" ", text[:_READ])
        letters = sum(3 if c >= _WORTH_THREE else 1 for c in prose if c.isalpha())
        if letters < FEWEST_LETTERS:
            return None
        ranked: list[tuple[str, float]] = identifier.rank(prose)
        hoped = sum(share for code, share in ranked if code in wanted)
        return ranked[0][0] if ranked[0][0] not in wanted and hoped < UNLIKELY else None

    return judge


def drop_other_languages(
    examples: Sequence[Example], on_reject: OnReject, judge: Judge
) -> list[Example]:
    """The examples in the wanted languages; the others are ``other-language``.

    Judged are what the user said and each answer to be learned, one by one. A rejected answer may
    be in any language: the wrong one may be why it was rejected.
    """
    out: list[Example] = []
    for example in examples:
        parts = [("an answer", completion.text) for completion in learned(example)]
        if example.prompt:
            parts.insert(0, ("the prompt", asked(example)))
        found = next(((name, code) for name, text in parts if (code := judge(text))), None)
        if found is None:
            out.append(example)
        else:
            on_reject(reject(example, "other-language", f"{found[0]} reads as '{found[1]}'"))
    return out
