"""Instructions about length, parts and marks of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from palate.evaluate.following.counting import count_sentences, count_words, sentence_splitter
from palate.evaluate.following.kind import Kind, number, ordinal, relation, text

Compare = Callable[[int, int], bool]

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""One of these is in an answer to a constrained question."""
_BULLET = re.compile(r"\*(?!\*)|-")
_WORD_ENDS = re.compile(r"""[.,?!'"]""")


def number_sentences(answer: str, num_sentences: int, relation: Compare) -> bool:
    """So many sentences."""
    return relation(count_sentences(answer), num_sentences)


def number_words(answer: str, num_words: int, relation: Compare) -> bool:
    """So many words."""
    return relation(count_words(answer), num_words)


def number_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """Exactly so many, divided by `***`; a divider may come first or last, but none twice."""
    parts = _parts(answer, "***")
    return parts is not None and len(parts) == num_paragraphs


def nth_paragraph_first_word(
    answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """So many paragraphs, divided by an empty line, and the nth begins with the word.

    What counts as the nth includes blank pieces, which do not count as paragraphs; case and
    what follows a mark do not matter ("Well-known", "Well," and "'well" begin with well-known,
    well and well).
    """
    pieces = answer.split("\n\n")
    filled = [piece for piece in pieces if piece.strip()]
    if len(filled) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    nth = pieces[nth_paragraph - 1].split()
    if not nth:
        return False
    word = _WORD_ENDS.split(nth[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == first_word.lower()


def number_placeholders(answer: str, num_placeholders: int) -> bool:
    """At least so many `[places]`, each within a line."""
    return len(re.findall(r"\[[^\]\n]*\]", answer)) >= num_placeholders


def postscript(answer: str, postscript_marker: str) -> bool:
    """The marker is there, in any case; those usual in English also with blanks between."""
    letters = {"P.S.": ("p", "s."), "P.P.S": ("p", "p", "s")}.get(postscript_marker)
    if letters is None:
        return postscript_marker.lower() in answer.lower()
    # Of each mark of abbreviation but the last, which the longer marker leaves out.
    return re.search(r"\.\s?".join(map(re.escape, letters)), answer.lower()) is not None


def number_bullet_lists(answer: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with `-`, or with one `*`."""
    return sum(1 for line in answer.split("\n") if _BULLET.match(line.lstrip())) == num_bullets


def constrained_response(answer: str) -> bool:
    """One of the three sentences is there, to the letter."""
    return any(option in answer for option in CONSTRAINED)


def number_highlighted_sections(answer: str, num_highlights: int) -> bool:
    """At least so many `*parts*` or `**parts**`, each within a line and not blank."""
    marked = re.findall(r"\*([^\n*]*)\*", answer) + re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(1 for part in marked if part.strip()) >= num_highlights


def multiple_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings, each of the word and a number: `Section 1`, `Section2`."""
    return len(re.findall(rf"{re.escape(section_spliter)}\s?\d+", answer)) >= num_sections


def json_format(answer: str) -> bool:
    """All of it is JSON, which may stand between Markdown's fences."""
    inside = answer.strip().removeprefix("```").removesuffix("```")
    if answer.lstrip().startswith("```") and inside[:4].lower() == "json":
        inside = inside[4:]
    try:
        json.loads(inside.strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(answer: str) -> bool:
    """There is a `<<title>>` within a line, and something in it."""
    found = re.findall(r"<<[^\n]+>>", answer)
    return any(part.strip("<>").strip() for part in found)


def two_responses(answer: str) -> bool:
    """Two different ones, divided by `******`; a divider may come first or last."""
    parts = _parts(answer, "******")
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The answer begins with the request, in any case."""
    return answer.strip().lower().startswith(prompt_to_repeat.lower())


def end_checker(answer: str, end_phrase: str) -> bool:
    """The answer ends with the phrase, in any case; quotation marks around it do not matter."""
    return answer.strip().strip('"').lower().endswith(end_phrase.lower())


def quotation(answer: str) -> bool:
    """The answer begins and ends with a straight quotation mark."""
    whole = answer.strip()
    return len(whole) > 1 and whole.startswith('"') and whole.endswith('"')


def _parts(answer: str, divider: str) -> list[str] | None:
    """What lies between dividers; None where two of them have nothing between."""
    parts = [part.strip() for part in answer.split(divider)]
    if not all(parts[1:-1]):
        return None
    return [part for part in parts if part]


_SENTENCES = {"num_sentences": number, "relation": relation}
_FIRST_WORD = {"num_paragraphs": number, "nth_paragraph": ordinal, "first_word": text}
_SECTIONS = {"section_spliter": text, "num_sections": number}

KINDS = (
    Kind(
        "length_constraints:number_sentences",
        number_sentences,
        _SENTENCES,
        prepare=sentence_splitter,
    ),
    Kind(
        "length_constraints:number_words",
        number_words,
        {"num_words": number, "relation": relation},
    ),
    Kind("length_constraints:number_paragraphs", number_paragraphs, {"num_paragraphs": number}),
    Kind("length_constraints:nth_paragraph_first_word", nth_paragraph_first_word, _FIRST_WORD),
    Kind(
        "detectable_content:number_placeholders",
        number_placeholders,
        {"num_placeholders": number},
    ),
    Kind("detectable_content:postscript", postscript, {"postscript_marker": text}),
    Kind("detectable_format:number_bullet_lists", number_bullet_lists, {"num_bullets": number}),
    Kind("detectable_format:constrained_response", constrained_response),
    Kind(
        "detectable_format:number_highlighted_sections",
        number_highlighted_sections,
        {"num_highlights": number},
    ),
    Kind("detectable_format:multiple_sections", multiple_sections, _SECTIONS),
    Kind("detectable_format:json_format", json_format),
    Kind("detectable_format:title", title),
    Kind("combination:two_responses", two_responses),
    Kind(
        "combination:repeat_prompt",
        repeat_prompt,
        {"prompt_to_repeat": text},
        prompted="prompt_to_repeat",
    ),
    Kind("startend:end_checker", end_checker, {"end_phrase": text}),
    Kind("startend:quotation", quotation),
)
"""Those that this file checks."""
