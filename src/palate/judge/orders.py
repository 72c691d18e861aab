"""Two questions for one comparison: both orders, and what they say together.

Models favour a place (Zheng et al. 2023, arXiv:2306.05685, section 3.3), so P(first is better) is
the mean of what each order says, and thus ½ where two hard verdicts disagree. RLAIF averages the
probabilities of the letters in the same way (Lee et al. 2023, arXiv:2309.00267, section 2.2). A
comparison of which one order failed is a failure as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.judge.opinion import Opinion, Score, settled
from palate.judge.prompts import LEAST, LETTERS, MOST

Told = tuple[dict[str, float], str]
"""Probabilities of the choices, and what they were read from."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A question that got no reply that can be used: why, and what came instead, if anything."""

    why: str
    raw: str | None = None


def both_orders(straight: Told | Failed, swapped: Told | Failed, tie: float = 0.0) -> Opinion:
    """The mean of both orders: in the swapped one the first answer stands second, as B.

    Within `tie` of ½ it is ½.
    """
    raw = tuple(
        text
        for told in (straight, swapped)
        if (text := told.raw if isinstance(told, Failed) else told[1]) is not None
    )
    for told in (straight, swapped):
        if isinstance(told, Failed):
            return Opinion(None, raw, told.why)
    assert not isinstance(straight, Failed)
    assert not isinstance(swapped, Failed)
    return Opinion(settled((straight[0][LETTERS[0]] + swapped[0][LETTERS[1]]) / 2, tie), raw)


def as_score(told: Told | Failed) -> Score:
    """The mean rating, mapped from 1 … 9 to [0, 1]."""
    if isinstance(told, Failed):
        return Score(None, raw=() if told.raw is None else (told.raw,), failure=told.why)
    mean = sum(int(digit) * chance for digit, chance in told[0].items())
    return Score((mean - LEAST) / (MOST - LEAST), raw=(told[1],))
