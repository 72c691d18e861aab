"""Each kind of instruction by hand: what follows it, and what does not."""

import json

import pytest

from palate.evaluate.following.instruction import KINDS, Instruction, check

AT_LEAST, LESS = "at least", "less than"

CASES = {
    "keywords:existence": [
        ({"keywords": ["tea", "Milk"]}, "Steamed MILK, then tea", True),  # in any case, in a word
        ({"keywords": ["tea", "Milk"]}, "Tea", False),
        ({"keywords": ["3.5"]}, "345", False),  # no regular expression
    ],
    "keywords:frequency": [
        ({"keyword": " tea ", "frequency": 2, "relation": AT_LEAST}, "Tea in a teapot", True),
        ({"keyword": "tea", "frequency": 3, "relation": AT_LEAST}, "Tea in a teapot", False),
        ({"keyword": "tea", "frequency": 3, "relation": LESS}, "Tea in a teapot", True),
        ({"keyword": "tea", "frequency": 2, "relation": LESS}, "Tea in a teapot", False),
        ({"keyword": "tea", "frequency": 1, "relation": LESS}, "Milk", True),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["tea"]}, "In a teapot", True),
        ({"forbidden_words": ["tea"]}, "Milk or TEA.", False),
        ({"forbidden_words": ["C++", "tea"]}, "Learn c++ now", False),
        ({"forbidden_words": ["été"]}, "Un ÉTÉ chaud", False),
        ({"forbidden_words": ["t"]}, "d'été", True),  # é is a letter
    ],
    "keywords:letter_frequency": [
        ({"letter": "E", "let_frequency": 3, "let_relation": AT_LEAST}, "Eleven", True),
        ({"letter": "e", "let_frequency": 3, "let_relation": LESS}, "Eleven", False),
        ({"letter": "#", "let_frequency": 2, "let_relation": AT_LEAST}, "# a # b", True),
        ({"letter": "#", "let_frequency": 3, "let_relation": AT_LEAST}, "# a # b", False),
    ],
    "language:response_language": [
        ({"language": "de"}, "Wir haben heute sehr schönes Wetter und gehen spazieren.", True),
        ({"language": "de"}, "The weather is fine today, and we go for a walk.", False),
        ({"language": "en"}, "THE WEATHER IS FINE TODAY, AND WE GO FOR A WALK.", True),
        ({"language": "kn"}, "12 + 30 = 42", True),  # in no language
    ],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 3, "capital_relation": AT_LEAST}, "A U.S. *TRIP*.", True),
        ({"capital_frequency": 4, "capital_relation": AT_LEAST}, "A U.S. *TRIP*.", False),
        # I and 'm, CAN and NOT, DO and N'T, AND/OR as one: I, CAN, NOT, DO, N'T, AND/OR are six
        ({"capital_frequency": 6, "capital_relation": AT_LEAST}, "I'm CANNOT DON'T AND/OR", True),
        ({"capital_frequency": 6, "capital_relation": LESS}, "I'm CANNOT DON'T AND/OR", False),
        ({"capital_frequency": 7, "capital_relation": LESS}, "I'm CANNOT DON'T AND/OR", True),
        ({"capital_frequency": 1, "capital_relation": LESS}, "No Capital 42 here", True),
    ],
    "change_case:english_capital": [
        ({}, "THIS IS 1 SHORT ANSWER ABOUT THE WEATHER.", True),
        ({}, "THIS IS A SHORT ANSWER ABOUT THE wEATHER.", False),
        ({}, "DAS IST EINE KURZE ANTWORT ÜBER DAS SCHÖNE WETTER.", False),
        ({}, "42", False),
    ],
    "change_case:english_lowercase": [
        ({}, "this is 1 short answer about the weather.", True),
        ({}, "this is a short answer about the Weather.", False),
        ({}, "das ist eine kurze antwort über das schöne wetter.", False),
    ],
    "punctuation:no_comma": [({}, "No; none、at all", True), ({}, "One, two", False)],
    "length_constraints:number_sentences": [
        # An abbreviation and a decimal point end no sentence, a line's end neither.
        ({"num_sentences": 2, "relation": AT_LEAST}, "Dr. Lee paid 3.50 euros.\nWhy?", True),
        ({"num_sentences": 3, "relation": AT_LEAST}, "Dr. Lee paid 3.50 euros.\nWhy?", False),
        ({"num_sentences": 2, "relation": LESS}, "one line\nanother line\n\na third", True),
        ({"num_sentences": 2, "relation": LESS}, "One. Two.", False),
    ],
    "length_constraints:number_words": [
        ({"num_words": 4, "relation": AT_LEAST}, "Don't go, Zoë", True),  # don, t, go, zoë
        ({"num_words": 5, "relation": AT_LEAST}, "Don't go, Zoë", False),
        ({"num_words": 5.0, "relation": LESS}, "Don't go, Zoë", True),
        ({"num_words": 4, "relation": LESS}, "Don't go, Zoë", False),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, "one\n***\ntwo", True),
        ({"num_paragraphs": 2}, "***\none\n***\ntwo\n***", True),
        ({"num_paragraphs": 2}, "one\n\ntwo", False),
        ({"num_paragraphs": 2}, "one\n***\n***\ntwo", False),
        ({"num_paragraphs": 1}, "one\n\nstill one", True),
    ],
    "length_constraints:nth_paragraph_first_word": [
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Well"}, "A\n\n'well, b", True),
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "well"}, "A\r\n\r\nWELL b", True),
        ({"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "well"}, "A\n\nwell b", False),
        ({"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "well"}, "A\n\nwell b", False),
        ({"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "c"}, "a\n\nb\n\nc", False),
        ({"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}, "a\n\nb\n\nc", False),
        # four line feeds: the second piece is blank
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "b"}, "a\n\n\n\nb", False),
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, "Dear [name], meet at [your place].", True),
        ({"num_placeholders": 3}, "Dear [name], meet at [your\nplace].", False),
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, "Yes.\n\np. s. Call me", True),
        ({"postscript_marker": "P.S."}, "Yes.\n\nPS Call me", False),
        ({"postscript_marker": "P.P.S"}, "Yes.\nP.P.S. Call me", True),
        ({"postscript_marker": "P.P.S"}, "Yes.\nP.S. Call me", False),
        ({"postscript_marker": "Note (1)"}, "Yes.\nNOTE (1) Call me", True),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 3}, "List:\n* one\n  - two\n-three", True),
        ({"num_bullets": 3}, "* one\n* two\n**bold**\n1. third", False),
        ({"num_bullets": 2}, "* one\n* two\n* three", False),
    ],
    "detectable_format:constrained_response": [
        ({}, "Well. My answer is no.", True),
        ({}, "My answer is No.", False),
        ({}, "My answer is no", False),
    ],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, "*one* and **two**", True),
        ({"num_highlights": 3}, "*one* and **two**", False),
        ({"num_highlights": 1}, "* one\n* two\n** **", False),  # bullets, and nothing
        ({"num_highlights": 1}, "* one *two", True),  # a bullet's asterisk opens a part too
    ],
    "detectable_format:multiple_sections": [
        ({"section_spliter": "Section", "num_sections": 2}, "Section 1\nHi\nSection2\nBye", True),
        ({"section_spliter": "SECTION", "num_sections": 1}, "Section 1\nHi", False),
        ({"section_spliter": "Section", "num_sections": 2}, "Section A\nSection 2", False),
    ],
    "detectable_format:json_format": [
        ({}, '```json\n{"a": [1]}\n```', True),
        ({}, "```\n[]```", True),
        ({}, ' "a" ', True),
        ({}, 'Here: {"a": 1}', False),
        ({}, "json {}", False),
        ({}, "[" * 100_000, False),
    ],
    "detectable_format:title": [
        ({}, "<<On tea>>\nText", True),
        ({}, "<< >>\nText", False),
        ({}, "<On tea>\nText", False),
        ({}, "<<On\ntea>>", False),
    ],
    "combination:two_responses": [
        ({}, "Tea\n******\nMilk", True),
        ({}, "******\nTea\n******\nMilk\n******", True),
        ({}, "Tea\n******\nTea", False),
        ({}, "Tea ****** Milk ****** Water", False),
        ({}, "Tea ****** ****** Milk", False),
        ({}, "Tea", False),
    ],
    "combination:repeat_prompt": [
        ({"prompt_to_repeat": "Say hi."}, " say HI. Hi!", True),
        ({"prompt_to_repeat": "Say hi."}, "Sure. Say hi. Hi!", False),
        ({}, "The prompt. And more", True),
        ({}, "A prompt. And more", False),
    ],
    "startend:end_checker": [
        ({"end_phrase": "That is all."}, 'Tea. "THAT is all."\n', True),
        ({"end_phrase": "That is all."}, "Tea. That is all. Bye", False),
    ],
    "startend:quotation": [
        ({}, ' "Tea" and "milk" ', True),
        ({}, '"', False),
        ({}, "“Tea”", False),
        ({}, '"Tea" and milk', False),
    ],
}


def test_every_kind_is_tried_both_ways():
    assert set(CASES) == set(KINDS)
    assert len(KINDS) == 25
    for cases in CASES.values():
        assert {expected for _, _, expected in cases} == {True, False}


@pytest.mark.parametrize(
    ("kind", "settings", "answer", "expected"),
    [(kind, *case) for kind, cases in CASES.items() for case in cases],
)
def test_by_hand(kind, settings, answer, expected):
    assert check(kind, settings, "The prompt.", answer) is expected


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("answer", ["", " \r\n\t"])
def test_a_blank_answer_follows_nothing(kind, answer):
    assert check(kind, CASES[kind][0][0], "The prompt.", answer) is False


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_how_lines_end_does_not_matter(kind):
    for settings, answer, expected in CASES[kind]:
        windows = answer.replace("\r\n", "\n").replace("\n", "\r\n")
        assert check(kind, settings, "The prompt.", windows) is expected


def test_settings_that_are_null_are_not_given():
    table = {"num_words": 2, "relation": AT_LEAST, "letter": None, "language": None}
    assert check("length_constraints:number_words", table, "p", "two words")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("punctuation:no_commas", {}, "no such kind; did you mean 'punctuation:no_comma'?"),
        ("punctuation:no_comma", {"n": 1}, "there is no setting 'n'; it has none"),
        (
            "startend:end_checker",
            {"phrase": "x"},
            "there is no setting 'phrase'; it has 'end_phrase'",
        ),
        ("startend:end_checker", {}, "the setting 'end_phrase' is missing"),
        ("startend:end_checker", {"end_phrase": " "}, "'end_phrase' must be a text, not ' '"),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "about"},
            "'relation' must be 'at least' or 'less than', not 'about'",
        ),
        (
            "length_constraints:number_words",
            {"num_words": True, "relation": LESS},
            "'num_words' must be a whole number that is not negative, not True",
        ),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 2.5},
            "'num_bullets' must be a whole number that is not negative, not 2.5",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 1, "nth_paragraph": 0, "first_word": "a"},
            "'nth_paragraph' must be a whole number from 1 on, not 0",
        ),
        ("keywords:existence", {"keywords": []}, "'keywords' must be a list of words, not []"),
        ("keywords:existence", {"keywords": [1]}, "'keywords' must be a text, not [1]"),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": LESS},
            "'letter' must be one character, not 'ab'",
        ),
    ],
)
def test_bad_settings_are_named(kind, settings, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Instruction(kind, settings)
    assert message in str(caught.value)


def test_an_unknown_language():
    with pytest.raises(ValueError, match=r"'language' must be a language of ISO 639-1"):
        Instruction("language:response_language", {"language": "english"})


def test_json_of_any_value():
    for value in ({"a": 1}, [1, 2], "text", None):
        assert check("detectable_format:json_format", {}, "p", json.dumps(value))
