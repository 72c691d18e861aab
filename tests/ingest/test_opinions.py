"""Named values: which are thumbs, which are scores, and what a row without an id can carry."""

import math

import pytest

from palate.ingest.opinions import Judgement, as_number, opinion, settled, split_judgements
from palate.records import Completion, Example, Message, RecordError, Signal

ABOUT = ("x:1",)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("user-feedback", 1, True),
        ("userFeedback", 0, False),
        ("User Feedback", -1, False),
        ("helicone-score-feedback", True, True),
        ("thumbs", "down", False),
        ("thumbs_up", False, False),
        ("like", 1.0, True),
        ("quality", "thumbs-up", True),
        ("quality", "👎", False),
        ("user-feedback", 4, 4.0),
        ("user-feedback", 0.5, 0.5),
        ("rating", 1, 1.0),  # of five, for all that is known
        ("likelihood", 1, 1.0),
        ("correct", True, 1.0),
        ("correct", "0.25", 0.25),
        ("positivity", "positive", "unread-feedback"),
        ("feedback", "see above", "unread-feedback"),
        ("quality", None, "unread-feedback"),
        ("quality", math.nan, "unread-feedback"),
        ("quality", 10**400, "unread-feedback"),
        ("quality", [1], "unread-feedback"),
        ("quality", {"value": 1}, "unread-feedback"),
    ],
)
def test_opinion(name, value, expected):
    if isinstance(expected, str):
        with pytest.raises(RecordError) as caught:
            opinion(name, value, ABOUT)
        assert caught.value.reason == expected
        return
    signal = opinion(name, value, ABOUT, by="me", comment="why")
    if isinstance(expected, bool):
        assert signal == Signal(ABOUT, "thumb", label=expected, by="me", comment="why")
    else:
        assert signal == Signal(ABOUT, "score", score=expected, name=name, by="me", comment="why")


def test_as_number():
    assert [as_number(v) for v in (1, "2.5", True, "x", None, "inf", {})] == [
        1.0,
        2.5,
        1.0,
        None,
        None,
        None,
        None,
    ]


def test_judgements_by_word_or_by_number():
    """Under a thumb's name the word counts, else the number; a word for a quality is a tag."""
    judgements = [
        Judgement("user_feedback", score=0.3, label="thumbs-up"),
        Judgement("correctness", score=0.3, label="incorrect", by="LLM", comment="see 3"),
        Judgement("tone", label="formal"),
        Judgement("empty"),
    ]
    signals, tags = split_judgements(judgements, ABOUT)
    assert signals == [
        Signal(ABOUT, "thumb", label=True),
        Signal(ABOUT, "score", score=0.3, name="correctness", by="LLM", comment="see 3"),
    ]
    assert tags == {"tone": "formal"}


HELLO = Completion((Message("assistant", "Hello!"),))
EXAMPLE = Example((Message("user", "Hi"),), (HELLO,))


def test_what_a_row_says_of_its_own_answer():
    thumb = Signal(ABOUT, "thumb", label=True)
    assert settled(EXAMPLE, [thumb]) == [EXAMPLE, thumb]
    assert settled(EXAMPLE, []) == [EXAMPLE]
    # no id would join them: the answer takes what it can
    said = [Signal((), "thumb", label=True), Signal((), "score", score=0.5, name="quality")]
    (example,) = settled(EXAMPLE, said)
    assert (example.completions[0].label, example.completions[0].score) == (True, 0.5)


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ([Signal((), "score", score=s) for s in (0.1, 0.2)], "no-id"),
        ([Signal((), "edit", edit=(Message("assistant", "x"),))], "no-id"),
        ([Signal((), "thumb", label=label) for label in (True, False)], "conflicting-feedback"),
    ],
)
def test_what_it_cannot_take_is_refused(signals, reason):
    with pytest.raises(RecordError) as caught:
        settled(EXAMPLE, signals)
    assert caught.value.reason == reason
