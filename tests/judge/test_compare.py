"""Two scores as one opinion."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.judge.worlds import question

from palate.judge.compare import ByScore
from palate.judge.opinion import Answered, Score


class Says:
    """Reads the score off the answer; what is no number is a failure."""

    name = "says"

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        return [
            Score(float(a.text), raw=("read",))
            if a.text[-1].isdigit()
            else Score(None, failure="?")
            for a in answers
        ]


def test_the_higher_score_wins_and_equal_ones_tie() -> None:
    opinions = ByScore(Says()).compare(
        [question("2", "1"), question("1", "2"), question("0.5", "0.50")]
    )
    assert [o.first_wins for o in opinions] == [1.0, 0.0, 0.5]
    assert opinions[0].raw == ("2", "read", "1", "read")


@pytest.mark.parametrize(("first", "second", "side"), [("x", "1", "first"), ("1", "x", "second")])
def test_a_failure_stays_one(first: str, second: str, side: str) -> None:
    (opinion,) = ByScore(Says()).compare([question(first, second)])
    assert opinion.first_wins is None
    assert opinion.failure == f"{side} answer: ?"


def test_scores_as_log_odds() -> None:
    opinions = ByScore(Says(), bradley_terry=True).compare(
        [question("2", "2"), question("1", "0"), question("-1000", "1000"), question("1000", "0")]
    )
    # 1 / (1 + 1/e) = e / (e + 1) = 0.731058578630005 (Abramowitz and Stegun's e).
    assert [o.first_wins for o in opinions] == [0.5, pytest.approx(0.731058578630005), 0.0, 1.0]


def test_nearly_even_odds_tie_where_that_is_wanted() -> None:
    # σ(0.4) = 0.5987 and σ(0.5) = 0.6225, to four places.
    judge = ByScore(Says(), bradley_terry=True, tie=0.1)
    opinions = judge.compare([question("0.4", "0"), question("0", "0.4"), question("0.5", "0")])
    assert [o.first_wins for o in opinions] == [0.5, 0.5, pytest.approx(0.6225, abs=5e-5)]
