from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from palate.evaluate.measure.answering import Spoken
from palate.evaluate.measure.kept import kept_rows
from palate.evaluate.measure.wins import duels
from palate.judge.opinion import Opinion, Question
from palate.records import Example, Message
from palate.resumable import Row


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    return tmp_path


def double(items: Sequence[int], number: int) -> list[Row]:
    return [{"value": 2 * item} for item in items]


def never(items: Sequence[int], number: int) -> list[Row]:
    raise AssertionError("they are there")


def test_rows_are_made_once_and_under_their_settings() -> None:
    told: list[int] = []
    rows = kept_rows("k", {"a": 1}, [1, 2, 3], 2, double, told.append)
    assert rows == [{"value": 2}, {"value": 4}, {"value": 6}]
    assert kept_rows("k", {"a": 1}, [1, 2, 3], 2, never, told.append) == rows
    assert told == [0, 3]
    with pytest.raises(AssertionError):
        kept_rows("k", {"a": 2}, [1, 2, 3], 2, never)


def test_what_was_stopped_goes_on_after_its_last_whole_group() -> None:
    seen: list[int] = []

    def work(items: Sequence[int], number: int) -> list[Row]:
        if number == 1 and len(seen) == 2:
            seen.append(-1)
            raise KeyboardInterrupt
        seen.extend(items)
        return double(items, number)

    with pytest.raises(KeyboardInterrupt):
        kept_rows("k", {}, [1, 2, 3, 4, 5], 2, work)
    rows = kept_rows("k", {}, [1, 2, 3, 4, 5], 2, work)
    assert seen == [1, 2, -1, 3, 4, 5]
    assert [row["value"] for row in rows] == [2, 4, 6, 8, 10]


def test_failures_are_made_anew_and_nothing_else(cache: Path) -> None:
    def failing(items: Sequence[int], number: int) -> list[Row]:
        return [{"value": None if item % 2 else item} for item in items]

    asked: list[int] = []

    def mended(items: Sequence[int], number: int) -> list[Row]:
        asked.extend(items)
        return [{"value": item} for item in items]

    kept_rows("k", {}, list(range(7)), 3, failing)
    rows = kept_rows("k", {}, list(range(7)), 3, mended, again=lambda row: row["value"] is None)
    assert asked == [1, 3, 5]
    assert [row["value"] for row in rows] == list(range(7))
    assert kept_rows("k", {}, list(range(7)), 3, never) == rows, "and then they are kept"


def test_a_damaged_file_is_begun_anew(cache: Path) -> None:
    rows = kept_rows("k", {}, [1, 2], 2, double)
    (file,) = (cache / "measured").glob("k-*.jsonl")
    file.write_text("not json\n", encoding="utf-8")
    assert kept_rows("k", {}, [1, 2], 2, double) == rows


class Flaky:
    """A judge that is down at first."""

    name = "flaky"

    def __init__(self) -> None:
        self.down, self.asked = True, 0

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        self.asked += len(questions)
        return [Opinion(None, failure="503") if self.down else Opinion(1.0) for _ in questions]


def test_a_judge_that_was_down_is_asked_again() -> None:
    examples = [Example((Message("user", str(n)),), ()) for n in range(3)]
    mine = [[Spoken((1,), "a", finished=True)]] * 3
    theirs = [[Spoken((1,), "a" if n == 1 else "b", finished=True)] for n in range(3)]
    judge = Flaky()
    first = duels(examples, mine, theirs, judge, "id")
    assert [one.wins for one in first] == [None, 0.5, None], "equal answers are a tie, unasked"
    judge.down = False
    second = duels(examples, mine, theirs, judge, "id")
    assert [one.wins for one in second] == [1.0, 0.5, 1.0]
    assert judge.asked == 4
    duels(examples, mine, theirs, judge, "id")
    assert judge.asked == 4
