"""Answers as a judging model's tokens, and scores put beside those that cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from palate.judge.holding import Held
from palate.judge.opinion import Answered, Score
from palate.records import Completion, Message

if TYPE_CHECKING:
    from palate.tokens.render import Rendered


def scores_of(
    held: Held, answers: Sequence[Answered], values: Callable[[list[Rendered]], list[float]]
) -> list[Score]:
    """A score each, in order: `values` of those that the model can read, a failure for the rest.

    What its template or length does not allow has a failure, and what is no finite number.
    """
    from palate.tokens.render import Unusable

    scores = [Score(None)] * len(answers)
    rendered: dict[int, Rendered] = {}
    for index, answer in enumerate(answers):
        try:
            rendered[index] = _rendered(held, answer)
        except Unusable as error:
            scores[index] = Score(None, failure=str(error))
    found = values(list(rendered.values()))
    for index, value in zip(rendered, found, strict=True):
        finite = math.isfinite(value)
        scores[index] = Score(value) if finite else Score(None, failure="not a number")
    return scores


def _rendered(held: Held, answer: Answered) -> Rendered:
    """As in training; of an answer that was cut off, without the end of turn."""
    from palate.tokens.tree import Branch

    completion = Completion((Message("assistant", answer.text),))
    found = held.renderer.render(replace(answer.example, completions=(completion,), verdict=None))
    (branch,) = found.branches
    if not answer.finished and branch.ids[-1] in held.renderer.end_ids:
        branch = Branch(branch.ids[:-1], branch.mask[:-1])
    return replace(found, branches=(branch,))
