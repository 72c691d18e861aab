"""The exact final number, and where the solution stands."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.judge.worlds import answered, example, pair

from palate.judge.number import NumberScorer, final_number, numbers, reference

SHARED = Path(os.environ.get("PALATE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
SOLVED = example("How many?", "48/2 = <<48/2=24>>24 in May, so 48+24 = 72.\n#### 72")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("-$1,234.50", [Fraction(-2469, 2)]),
        ("$-7 and (−8)", [-7, -8]),
        ("10-5 = 5.", [10, 5, 5]),
        ("x = -5.", [-5]),
        ("row-3", [3]),
        ("3/4 of 12.50%", [Fraction(3, 4), Fraction(25, 2)]),
        ("1,2 and 1,234,567 and 12,34", [1, 2, 1234567, 12, 34]),
        ("about .5", [Fraction(1, 2)]),
        ("1/0", []),
        ("9" * 61, []),
        ("٣ apples", []),
        ("none", []),
    ],
)
def test_numbers_as_people_write_them(text: str, values: list[Fraction]) -> None:
    assert numbers(text) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 72", 72),
        ("#### $1,072.00 for 3 days", 1072),
        ("12 #### 5 #### 7", 7),
        ("#### none of the 3", 3),
        ("so \\boxed{42}, as 41 + 1 shows", 42),
        ("first 3, then 4", 4),
        ("#### unknown", None),
        ("no idea", None),
    ],
)
def test_the_mark_comes_before_the_box_and_the_last_number(text: str, value: int | None) -> None:
    assert final_number(text) == value


def test_the_reference_is_what_the_data_hold_as_right() -> None:
    assert reference(SOLVED) == SOLVED.completions[0].text
    assert reference(pair("good 1", "bad 2")) == "good 1"
    assert reference(example("?", "one", "two")) is None  # nobody says which
    assert reference(example("?")) is None
    up_and_down = example("?", "one", "two")
    one, two = up_and_down.completions
    thumbs = (replace(one, label=False), replace(two, label=True))
    assert reference(replace(up_and_down, completions=thumbs)) == "two"
    assert reference(replace(up_and_down, completions=thumbs[:1])) is None
    tagged = replace(up_and_down, tags={"gold": "5"})
    assert reference(tagged, "tag:gold") == "5"
    assert reference(tagged, "tag:golden") is None


def test_only_the_exact_number_scores() -> None:
    judge = NumberScorer()
    texts = ["It is 72.", "$72.00 in all", "#### 72", "71", "72 or 73", "seventy-two"]
    scores = judge.score([answered(text, about=SOLVED) for text in texts])
    assert [score.value for score in scores] == [1, 1, 1, 0, 0, 0]
    assert [score.passed for score in scores] == [True, True, True, False, False, False]
    assert scores[3].failed == ("wrong number",)
    assert scores[5].failed == ("no number",)


def test_a_number_on_the_way_of_a_cut_answer_is_not_final() -> None:
    cut, marked = NumberScorer().score(
        [
            answered("so far 72", about=SOLVED, finished=False),
            answered("#### 72", about=SOLVED, finished=False),
        ]
    )
    assert (cut.value, cut.failed) == (0.0, ("cut off",))
    assert marked.value == 1.0


def test_without_a_solution_there_is_no_score() -> None:
    bare, wordy = NumberScorer().score(
        [answered("72", about=example()), answered("72", about=example("?", "many"))]
    )
    assert bare.value is None
    assert bare.failure == "no solution in reference"
    assert wordy.failure == "a solution without a number in reference"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_agrees_with_the_published_marks_of_four_models_solutions() -> None:
    right = total = 0
    for line in (SHARED / "gsm8k_model_solutions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        solved = example(row["question"], row["ground_truth"])
        for said in row.values():
            if isinstance(said, dict):
                (score,) = NumberScorer().score([answered(said["solution"], about=solved)])
                right += score.passed == said["is_correct"]
                total += 1
    assert (right, total) == (5276, 5276)
