"""Counts by hand."""

import builtins

import pytest

from palate.evaluate.following import counting
from palate.evaluate.following.counting import (
    count_capital_words,
    count_sentences,
    count_words,
    sentence_splitter,
)
from palate.evaluate.following.instruction import Instruction
from palate.evaluate.following.language import identifier


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One. Two? Three! Four", 4),
        ("He lives in the U.S. and works for Mr. Lee.", 1),
        ("A title\n\nAnd a line", 1),
        ('He said "Go." Then he left.', 2),
        ("It went on... and on.", 1),
    ],
)
def test_sentences(text, number):
    assert count_sentences(text) == number


def test_words():
    assert count_words("Zoë's well-known snake_case, 3.5!") == 7  # Zoë s well known snake_case 3 5
    assert count_words("—…!") == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("A B c D2 2", 3),
        ("WELL-KNOWN", 1),
        ("YES—NO YES--NO YES...NO", 6),
        ("TIME:NOON 10:30PM X,Y X,5", 6),  # TIME NOON 10:30PM X Y X,5
        ("I'm I’m I'LL I've", 5),  # I m, I m, I LL, I ve
        ("CAN'T", 2),
        ("Cannot", 0),
        ("CANNOT GIMME GONNA", 6),
        ("'QUOTED' (BRACKETS) <TAG>", 3),
        ("ÜBER straße", 1),
    ],
)
def test_words_in_capitals(text, number):
    assert count_capital_words(text) == number


@pytest.mark.parametrize(
    ("cached", "kind", "settings"),
    [
        (
            sentence_splitter,
            "length_constraints:number_sentences",
            {"num_sentences": 1, "relation": "at least"},
        ),
        (identifier, "change_case:english_capital", {}),
    ],
)
def test_a_missing_library_is_said_before_anything_is_checked(cached, kind, settings, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] in {"punkt", "py3langid"}:
            raise ImportError(name)
        return real(name, *rest)

    cached.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r'pip install "palate\[following\]"'):
        Instruction(kind, settings)


def test_the_splitter_is_made_once():
    assert counting.sentence_splitter() is counting.sentence_splitter()
