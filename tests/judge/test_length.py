"""Lengths, graded by distance."""

from __future__ import annotations

from tests.judge.worlds import answered

from palate.judge.length import LengthScorer


def test_graded_by_how_far_it_is_from_the_range() -> None:
    judge = LengthScorer(4, 6)
    scores = judge.score([answered("w " * n) for n in (0, 2, 4, 6, 12)])
    assert [s.value for s in scores] == [0.0, 0.5, 1.0, 1.0, 0.5]
    assert [s.passed for s in scores] == [False, False, True, True, False]
    assert scores[1].failed == ("too short",)
    assert scores[4].failed == ("too long",)


def test_one_end_may_be_open() -> None:
    words = [answered("w " * 100), answered("w")]
    assert [s.value for s in LengthScorer(least=2).score(words)] == [1.0, 0.5]
    assert [s.value for s in LengthScorer(most=50).score(words)] == [0.5, 1.0]
