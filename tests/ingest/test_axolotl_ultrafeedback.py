"""Axolotl's single-turn types, and UltraFeedback's scored completions."""

import pytest
from tests.ingest.fixture_rows import FIVE, HELLO, HI, RENT, SYSTEM, answer, read, rows

from palate.ingest import axolotl, ultrafeedback
from palate.records import Message, RecordError

NO = Message("assistant", "No idea.")


def test_axolotl():
    found, rejects = read("axolotl")
    assert not rejects
    (intel,), (argilla,), (nectar,), (kto,) = found.values()
    assert intel.record.prompt == (SYSTEM, RENT)
    assert (intel.record.chosen, intel.record.rejected) == (answer(FIVE), answer(NO))
    assert (argilla.record.prompt, argilla.record.chosen) == ((HI,), answer(HELLO))
    assert argilla.record.tags == {"topic": "greeting"}
    assert nectar.record.prompt == (Message("user", "Which colours?"),)
    assert [(one.source, one.score) for one in nectar.record.completions] == [
        ("gpt-small", -1.0),
        ("llama-small", -3.0),
        ("claude-small", -2.0),
    ]
    assert kto.record.completions == (answer(Message("assistant", "Goodbye."), label=True),)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Hi", "chosen": "Hello!", "rejected": "What?"},
        {"input": "Hi", "chosen": "Hello!", "rejected": "What?", "system": None},
        {"instruction": "Hi", "chosen_response": "Hello!", "rejected_response": "What?"},
    ],
)
def test_the_pairs_of_every_type(row):
    assert axolotl.sniff(row)
    (example,) = axolotl.parse(row)
    assert (example.prompt, example.chosen) == ((HI,), answer(HELLO))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Hi", "chosen": "a", "rejected": "a"}, "equal-answers"),
        ({"question": "Hi", "chosen": "a"}, "missing-field"),
        ({"question": "", "chosen": "a", "rejected": "b"}, "empty-prompt"),
        ({"question": 7, "chosen": "a", "rejected": "b"}, "wrong-type"),
        ({"system": 7, "question": "Hi", "chosen": "a", "rejected": "b"}, "wrong-type"),
        ({"prompt": "Hi", "answers": []}, "wrong-type"),
        ({"prompt": "Hi", "answers": [{"answer": "a"}]}, "missing-field"),
        ({"prompt": "Hi", "answers": [{"answer": "a", "rank": "first"}]}, "bad-rank"),
        ({"prompt": "Hi", "answers": ["a"]}, "wrong-type"),
        ({"question": "Hi", "completion": "a", "label": None}, "bad-label"),
        ({"question": "Hi", "completion": "a", "rating": "down"}, "unread-feedback"),
    ],
)
def test_axolotl_refuses(row, reason):
    with pytest.raises(RecordError) as caught:
        axolotl.parse(row)
    assert caught.value.reason == reason


def test_ultrafeedback():
    found, rejects = read("ultrafeedback")
    assert not rejects
    (group,) = found[1]
    assert (group.record.prompt, group.record.shape) == ((RENT,), "group")
    assert [(one.source, one.score) for one in group.record.completions] == [
        ("gpt-small", 8.5),
        ("llama-small", 3.0),
        ("old-small", None),  # N/A; its other score is on another scale
    ]
    assert group.record.tags == {"source": "desk"}


def test_the_mean_of_the_aspects_where_no_row_has_an_overall_score():
    row = rows("ultrafeedback")[0]
    for one in row["completions"]:
        del one["overall_score"]
    (example,) = ultrafeedback.parse(row)
    assert [one.score for one in example.completions] == [4.75, 2.5, 1.25]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instruction": None}, "missing-field"),
        ({"instruction": " "}, "empty-prompt"),
        ({"completions": None}, "missing-field"),
        ({"completions": "x"}, "wrong-type"),
        ({"completions": []}, "empty-answer"),
        ({"completions": ["x"]}, "wrong-type"),
        ({"completions": [{"response": ""}]}, "empty-answer"),
        ({"completions": [{"response": 7}]}, "wrong-type"),
    ],
)
def test_ultrafeedback_refuses(fields, reason):
    with pytest.raises(RecordError) as caught:
        ultrafeedback.parse({**rows("ultrafeedback")[0], **fields})
    assert caught.value.reason == reason
