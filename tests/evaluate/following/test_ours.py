"""The set that comes with Palate: every prompt can be satisfied, and every instruction missed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from palate.evaluate.following.instruction import KINDS
from palate.evaluate.following.prompts import read_instructions
from palate.evaluate.following.score import score

ROWS = read_instructions()
HELD = Path(__file__).with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()
ANSWERS = [json.loads(line)["answer"] for line in HELD]
"""One answer to each prompt that follows all of its instructions, written by hand."""

MISSES = (
    "Zebra, 1.",  # hardly anything is in it, and a comma is
    "ENOUGH! " * 40,  # many sentences and capitals
    "<<a, b>>\n***\n- night\n***\n- Z z x X z\n" * 8,  # marks and letters, too many of them
)


def test_how_often_each_kind_is_there():
    assert len(ROWS) == 80
    kinds = Counter(asked.kind for row in ROWS for asked in row.instructions)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 3
    assert [row.key for row in ROWS] == [str(json.loads(line)["key"]) for line in HELD]
    assert len({row.prompt for row in ROWS}) == 80


def test_the_answers_by_hand_follow_everything():
    got = score(ROWS, ANSWERS)
    assert [row.key for row, p in zip(ROWS, got.prompts, strict=True) if not all(p.strict)] == []
    assert got.prompt_strict.followed == got.prompt_loose.followed == 80


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_instruction_can_be_missed(row):
    for asked in row.instructions:
        words = " ".join(asked.settings.get("forbidden_words", ()))
        misses = [*MISSES, f"The words {words}"]
        assert not all(asked.follows(row.prompt, miss) for miss in misses), asked


def test_answers_to_other_prompts_seldom_do():
    """Each answer for the prompt after it: what is asked is particular, not what any text has."""
    got = score(ROWS, ANSWERS[1:] + ANSWERS[:1])
    assert got.prompt_strict.followed <= 16


def test_a_prompt_that_is_to_be_repeated_is_in_the_prompt():
    for row in ROWS:
        for asked in row.instructions:
            repeated = asked.settings.get("prompt_to_repeat", "")
            assert row.prompt.startswith(repeated)
