"""Thumbs: what is read as up and down, and that nothing else is guessed."""

import pytest

from palate.ingest.feedback import choice_labels, read_thumb
from palate.records import RecordError


@pytest.mark.parametrize(
    "value",
    [
        "up",
        "Thumbs Up",
        "thumbs-up",
        "thumbs_up",
        "👍",
        1,
        1.0,
        "1",
        "+1",
        True,
        "TRUE",
        " good ",
        {"rating": "up"},
        {"score": 1},
        {"value": True, "comment": "thanks"},
        '{"thumbs": "up"}',
    ],
)
def test_up(value):
    assert read_thumb(value) is True


@pytest.mark.parametrize(
    "value",
    [
        "down",
        "thumbs_down",
        "Thumbs-Down",
        "👎",
        -1,
        -1.0,
        "-1",
        False,
        "false",
        "dislike",
        {"rating": -1},
        {"score": "bad", "value": -1},
    ],
)
def test_down(value):
    assert read_thumb(value) is False


@pytest.mark.parametrize("value", [None, "", "  ", {"rating": None}, {"score": ""}])
def test_nobody_pressed_a_thumb(value):
    assert read_thumb(value) is None


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        "0",
        5,
        0.7,
        "5 stars",
        "meh",
        float("nan"),
        [],
        {},
        {"comment": "nice"},
        {"rating": {"rating": 1}},
        {"score": 4},
        10**400,
        "--1",
        "- 1",
    ],
)
def test_anything_else_is_refused(value):
    with pytest.raises(RecordError) as caught:
        read_thumb(value)
    assert caught.value.reason == "unknown-feedback"


def test_an_object_that_says_both_is_refused():
    with pytest.raises(RecordError) as caught:
        read_thumb({"rating": 1, "thumbs": "down"})
    assert caught.value.reason == "conflicting-feedback"


TWO = [{"index": 0, "message": {}}, {"index": 1, "message": {}}]


@pytest.mark.parametrize(
    ("about_row", "expected"),
    [
        ([], [None, None]),
        ([["up", "down"]], [True, False]),
        ([[1, None]], [True, None]),
        ([[{"index": 1, "rating": "up"}]], [None, True]),
        ([{"index": 1, "rating": "down"}], [None, False]),
        ([[{"index": 1, "rating": "up"}, {"index": 0, "rating": -1}]], [False, True]),
        ([None], [None, None]),
        ([["up", "down"], [True, None]], [True, False]),  # said twice, and the same
    ],
)
def test_feedback_of_a_row_with_two_choices(about_row, expected):
    assert choice_labels(TWO, about_row) == expected


@pytest.mark.parametrize(
    ("about_row", "reason"),
    [
        (["up"], "ambiguous-feedback"),
        ([["up"]], "ambiguous-feedback"),
        ([["up", "up", "up"]], "ambiguous-feedback"),
        ([{"index": 2, "rating": "up"}], "unknown-feedback"),
        ([{"index": True, "rating": "up"}], "unknown-feedback"),
        ([["up", "down"], ["down", None]], "conflicting-feedback"),
    ],
)
def test_feedback_that_fits_no_choice_is_refused(about_row, reason):
    with pytest.raises(RecordError) as caught:
        choice_labels(TWO, about_row)
    assert caught.value.reason == reason


def test_a_choice_may_carry_its_own_thumb():
    choices = [{"feedback": "up"}, {"message": {"rating": -1}}, {"message": None}]
    assert choice_labels(choices, []) == [True, False, None]


def test_the_index_names_the_choice_not_its_place():
    choices = [{"index": 1}, {"index": 0}]
    assert choice_labels(choices, [{"index": 1, "rating": "up"}]) == [True, None]
