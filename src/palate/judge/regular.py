"""A regular expression as a judge."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from palate.judge.opinion import Answered, Closing, Score

SECONDS = 5.0


class PatternScorer(Closing):
    """1 for an answer that holds the pattern somewhere (with `absent`: nowhere), else 0.

    A pattern can take longer on a text than anybody waits (``(a+)+$``). After `seconds` the
    answer has no score, but a failure. Raises `ValueError` for what is no pattern.
    """

    def __init__(
        self, pattern: str, *, absent: bool = False, name: str = "regex", seconds: float = SECONDS
    ) -> None:
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"the pattern {pattern!r} cannot be used: {error}") from error
        self.name, self.absent, self.seconds = name, absent, seconds

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        return [self._one(answer.text) for answer in answers]

    def _one(self, text: str) -> Score:
        try:
            found = self._pattern.search(text, timeout=self.seconds)
        except TimeoutError:
            return Score(None, failure=f"the pattern took more than {self.seconds:g} s")
        passed = (found is None) == self.absent
        why = "pattern found" if self.absent else "pattern not found"
        return Score(float(passed), passed, () if passed else (why,))
