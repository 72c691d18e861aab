"""The length of an answer as a judge."""

from __future__ import annotations

from collections.abc import Sequence

from palate.judge.opinion import Answered, Closing, Score


class LengthScorer(Closing):
    """1 for an answer of `least` to `most` words, less the further it is from that.

    With n words: n / least below, most / n above, so twice too long is as bad as half of what is
    needed. Words are what white space separates.
    """

    def __init__(
        self, least: int | None = None, most: int | None = None, *, name: str = "length"
    ) -> None:
        assert least is not None or most is not None
        self.name, self.least, self.most = name, least, most

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        return [self._one(len(answer.text.split())) for answer in answers]

    def _one(self, words: int) -> Score:
        if self.least is not None and words < self.least:
            return Score(words / self.least, False, ("too short",))
        if self.most is not None and words > self.most:
            return Score(self.most / words, False, ("too long",))
        return Score(1.0, True)
