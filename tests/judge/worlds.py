"""Answers and questions for tests of judges."""

from __future__ import annotations

from palate.judge.opinion import Answered, Question
from palate.records import Completion, Example, Message, Verdict


def example(prompt: str = "Where is my parcel?", *answers: str, **more: object) -> Example:
    """A prompt and the answers that the data hold."""
    completions = tuple(Completion((Message("assistant", text),)) for text in answers)
    return Example((Message("user", prompt),), completions, **more)  # type: ignore[arg-type]


def pair(chosen: str, rejected: str) -> Example:
    """Two answers of which the second stands first in the data."""
    return example("Which?", rejected, chosen, verdict=Verdict(1, 0))


def answered(text: str, *, about: Example | None = None, finished: bool = True) -> Answered:
    """An answer to judge."""
    return Answered(about or example(), text, finished)


def question(first: str, second: str, prompt: str = "Where is my parcel?") -> Question:
    """Two answers to compare."""
    return Question(example(prompt), first, second)
