"""CSV for spreadsheets: formulas become text, everything else comes back as it was."""

from __future__ import annotations

import csv
import io

import pytest

from palate.ui.csv_text import Cell, csv_pieces, csv_text, neutral


@pytest.mark.parametrize(
    "first", ["=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}"]
)
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(first: str) -> None:
    assert neutral(f"{first}cmd|' /C calc'!A0") == f"'{first}cmd|' /C calc'!A0"


@pytest.mark.parametrize("separator", [";", "\t", "\n", "\r\n"])
@pytest.mark.parametrize("first", ["=", "+", "-", "@"])
def test_a_spreadsheet_that_splits_cells_elsewhere_finds_no_formula(
    separator: str, first: str
) -> None:
    """Where a comma separates decimals, Excel splits at semicolons, whatever the quotes say."""
    assert neutral(f"yes{separator}{first}1+1") == f"yes{separator}'{first}1+1"
    assert neutral(f"yes{separator}no{first}1") == f"yes{separator}no{first}1"


def test_other_text_and_numbers_stay() -> None:
    assert [neutral(cell) for cell in ("a=1", " =1", "", None, -3, 2.5, "'=1")] == [
        "a=1",
        " =1",
        "",
        "",
        "-3",
        "2.5",
        "'=1",
    ]


def test_quotes_commas_and_lines_come_back() -> None:
    row = ['say "yes", or\nno', "ü — 漢", "x"]
    text = csv_text(["a", "=b", "c"], [row])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "'=b", "c"], row]
    assert text.endswith("\r\n")


def test_pieces_are_the_whole() -> None:
    rows: list[list[Cell]] = [[number, f"row {number}"] for number in range(450)]
    pieces = list(csv_pieces(["n", "text"], rows))
    assert len(pieces) == 3, "two of 200 rows, and the rest"
    assert list(csv.reader("".join(pieces).splitlines()))[-1] == ["449", "row 449"]
