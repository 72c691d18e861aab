"""What every judge is asked and what it answers: a number for one answer, or a word on two.

A judge that could not tell says so (`failure`) and gives no value: an outage never becomes a
verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from palate.records import Example


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to an example's prompt; what else the example holds (a solution) may help."""

    example: Example
    text: str
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Score:
    """How good one answer is, more is better; None with a `failure` where that is not known.

    `passed` where the judge knows a border between good and bad, `failed` the parts that did
    not pass, `raw` what the judge said.
    """

    value: float | None
    passed: bool | None = None
    failed: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Which of two answers to an example's prompt is better?"""

    example: Example
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """P(the first answer is better), in [0, 1], ½ for a tie; None with a `failure`.

    `raw` is what the judge said, one text for each time it was asked.
    """

    first_wins: float | None
    raw: tuple[str, ...] = ()
    failure: str | None = None


def settled(first_wins: float, tie: float) -> float:
    """½ for what is within `tie` of it, else the probability itself."""
    return 0.5 if abs(first_wins - 0.5) <= tie else first_wins


class Scorer(Protocol):
    """Gives every answer a number."""

    name: str

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        ...


class PairJudge(Protocol):
    """Says which of two answers is better."""

    name: str

    def compare(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion each, in order."""
        ...


class Closing:
    """A judge that can be used in a `with` block; one that holds nothing has nothing to close."""

    def close(self) -> None:
        """Let go of connections and models."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenScorer(Scorer, Protocol):
    """A `Scorer` that is closed after use, at the end of a `with` block or by `close`."""

    def close(self) -> None:
        """Let go of connections and models."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class OpenPairJudge(PairJudge, Protocol):
    """A `PairJudge` that is closed after use, at the end of a `with` block or by `close`."""

    def close(self) -> None:
        """Let go of connections and models."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
