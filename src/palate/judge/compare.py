"""A judge of single answers as a judge of two."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.judge.opinion import Answered, Closing, Opinion, Question, Score, Scorer, settled


class ByScore(Closing):
    """The answer with the higher score wins; equal scores are a tie, and a failure stays one.

    With `bradley_terry` the scores are log-odds, and P(first is better) = σ(s₁ − s₂) (Bradley and
    Terry 1952, Biometrika 39:324): what a reward model is trained on. Within `tie` of ½ it is ½.
    """

    def __init__(self, scorer: Scorer, *, bradley_terry: bool = False, tie: float = 0.0) -> None:
        self.name, self.scorer, self.bradley_terry = scorer.name, scorer, bradley_terry
        self.tie = tie

    def close(self) -> None:
        """Close the judge of single answers, if it can be closed."""
        close = getattr(self.scorer, "close", None)
        if close is not None:
            close()

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion each, in order."""
        answers = [Answered(q.example, text) for q in questions for text in (q.first, q.second)]
        scores = self.scorer.score(answers)
        assert len(scores) == len(answers)
        return [
            self._opinion(first, second)
            for first, second in zip(scores[::2], scores[1::2], strict=True)
        ]

    def _opinion(self, first: Score, second: Score) -> Opinion:
        for side, score in (("first", first), ("second", second)):
            if score.value is None:
                return Opinion(None, _raw(first, second), f"{side} answer: {score.failure}")
        assert first.value is not None
        assert second.value is not None
        ahead = first.value - second.value
        if self.bradley_terry:
            wins = 1 / (1 + math.exp(-ahead)) if ahead > -700 else 0.0
        else:
            wins = 0.5 if ahead == 0 else float(ahead > 0)
        return Opinion(settled(wins, self.tie), _raw(first, second))


def _raw(first: Score, second: Score) -> tuple[str, ...]:
    said = [("no score" if s.value is None else f"{s.value:.6g}", s.raw) for s in (first, second)]
    return tuple(text for value, raw in said for text in (value, *raw))
