"""Excerpts: around the words, in parts, with every letter kept."""

from __future__ import annotations

from palate.ui.data.excerpts import excerpt, marked


def joined(parts: list[dict[str, object]]) -> str:
    return "".join(str(part["text"]) for part in parts)


def test_every_match_is_marked_in_any_letter_case() -> None:
    assert marked("Ab cab", "AB") == [
        {"text": "Ab", "hit": True},
        {"text": " c", "hit": False},
        {"text": "ab", "hit": True},
    ]


def test_letters_that_grow_in_lower_case_shift_nothing() -> None:
    # U+0130 has two letters in lower case.
    assert marked("\u0130\u0130x", "x") == [
        {"text": "\u0130\u0130", "hit": False},
        {"text": "x", "hit": True},
    ]


def test_the_text_that_holds_the_words_is_chosen_and_cut_around_them() -> None:
    long = "a " * 200 + "needle" + " b" * 200
    parts = excerpt(["first", long, "last"], "Needle")
    assert [part["text"] for part in parts if part["hit"]] == ["needle"]
    text = joined(parts)
    assert text.startswith("…")
    assert text.endswith("…")
    assert len(text) == 242


def test_without_words_the_last_text_is_shown_and_lines_are_joined() -> None:
    assert excerpt(["one", "two\n\n three", ""], "") == [{"text": "two three", "hit": False}]
    assert excerpt(["", " "], "x") == []


def test_words_over_a_line_break_are_found() -> None:
    assert joined([p for p in excerpt(["say\nthis now"], "SAY this") if p["hit"]]) == "say this"
