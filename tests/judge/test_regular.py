"""Regular expressions, also those that would take for ever."""

from __future__ import annotations

import pytest
from tests.judge.worlds import answered

from palate.judge.regular import PatternScorer


def test_a_pattern_somewhere_or_nowhere() -> None:
    texts = [answered("Order 12 is on its way."), answered("On its way.")]
    there = PatternScorer(r"(?i)\border \d+\b").score(texts)
    assert [(s.value, s.passed) for s in there] == [(1.0, True), (0.0, False)]
    assert there[1].failed == ("pattern not found",)
    nowhere = PatternScorer(r"\d", absent=True).score(texts)
    assert [s.value for s in nowhere] == [0.0, 1.0]
    assert nowhere[0].failed == ("pattern found",)


@pytest.mark.parametrize("absent", [False, True])
def test_a_pattern_that_takes_for_ever_is_a_failure_and_no_verdict(absent: bool) -> None:
    judge = PatternScorer(r"^(\w|\w\w)+$", absent=absent, seconds=0.05)
    slow, quick = judge.score([answered("w" * 60 + "!"), answered("word")])
    assert slow.value is None
    assert slow.passed is None
    assert slow.failure == "the pattern took more than 0.05 s"
    assert quick.passed == (not absent)


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the pattern '\(' cannot be used: missing \)"):
        PatternScorer("(")
