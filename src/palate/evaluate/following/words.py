"""Instructions about words, letters, capitals and language."""

from __future__ import annotations

import re
from collections.abc import Callable

from palate.evaluate.following import language
from palate.evaluate.following.counting import count_capital_words
from palate.evaluate.following.kind import Kind, character, number, relation, text, words

Compare = Callable[[int, int], bool]


def existence(answer: str, keywords: tuple[str, ...]) -> bool:
    """Each keyword is there, in any case, also within a longer word."""
    return all(_times(keyword, answer) for keyword in keywords)


def frequency(answer: str, keyword: str, frequency: int, relation: Compare) -> bool:
    """The keyword is there so often, in any case, also within longer words."""
    return relation(_times(keyword, answer), frequency)


def forbidden_words(answer: str, forbidden_words: tuple[str, ...]) -> bool:
    """None of them is there as a whole word, in any case."""
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE)
        for word in forbidden_words
    )


def letter_frequency(answer: str, letter: str, let_frequency: int, let_relation: Compare) -> bool:
    """The letter, small or capital, or any other character, is there so often."""
    return let_relation(answer.lower().count(letter.lower()), let_frequency)


def response_language(answer: str, language: str) -> bool:
    """All of the answer reads as this language."""
    return _reads_as(answer, language)


def capital_word_frequency(answer: str, capital_frequency: int, capital_relation: Compare) -> bool:
    """So many words are in capitals."""
    return capital_relation(count_capital_words(answer), capital_frequency)


def english_capital(answer: str) -> bool:
    """English, and every letter that has a case is a capital."""
    return answer.isupper() and _reads_as(answer, "en")


def english_lowercase(answer: str) -> bool:
    """English, and without a capital."""
    return answer.islower() and _reads_as(answer, "en")


def no_comma(answer: str) -> bool:
    """Without the character ","; commas of other scripts are not meant."""
    return "," not in answer


_reads_as = language.reads_as


def _times(keyword: str, answer: str) -> int:
    return len(re.findall(re.escape(keyword), answer, re.IGNORECASE))


KINDS = (
    Kind("keywords:existence", existence, {"keywords": words}),
    Kind(
        "keywords:frequency",
        frequency,
        {"keyword": text, "frequency": number, "relation": relation},
    ),
    Kind("keywords:forbidden_words", forbidden_words, {"forbidden_words": words}),
    Kind(
        "keywords:letter_frequency",
        letter_frequency,
        {"letter": character, "let_frequency": number, "let_relation": relation},
    ),
    Kind(
        "language:response_language",
        response_language,
        {"language": language.code},
        prepare=language.identifier,
    ),
    Kind(
        "change_case:capital_word_frequency",
        capital_word_frequency,
        {"capital_frequency": number, "capital_relation": relation},
    ),
    Kind("change_case:english_capital", english_capital, prepare=language.identifier),
    Kind("change_case:english_lowercase", english_lowercase, prepare=language.identifier),
    Kind("punctuation:no_comma", no_comma),
)
"""Those that this file checks."""
