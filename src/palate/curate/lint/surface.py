"""Do markdown, emoji, refusals and the like decide who wins, at equal length?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from palate.curate.lint.features import FEATURES, covered
from palate.curate.lint.findings import SHOWN, Finding, Number, severity_of
from palate.curate.lint.shares import Floats, win_rate
from palate.curate.lint.view import View

CURES = {
    "refusal": "Look at who refuses: if refusals lose, the model unlearns them where they are "
    "right too. Keep refusals of the unsafe on the better side, and drop the mistaken ones.",
    "question": "If a question at the end is not what you want to teach, drop or rewrite the pairs "
    "in which only one answer has it.",
}
_CURE = (
    "If that is not what you want to teach, balance it: for each pair in which only the one answer "
    "has it, find one in which only the other has it, or drop it from both."
)


def check(view: View) -> Iterator[Number | Finding]:
    """For each feature, how often the answer with it wins against one without, at equal length.

    A feature that tells the answers apart in fewer than 5 % of the contests, or 20 of them, is
    not looked at. Intervals hold for all that are looked at together.
    """
    columns = [
        (feature, view.form.features[:, at])
        for at, feature in enumerate(FEATURES)
        if len(view.contests) and covered(view.form.features[:, at])
    ]
    for feature, column_N in columns:
        number = at_equal_length(
            view,
            f"surface.{feature.name}",
            f"an answer {feature.said} wins",
            column_N,
            len(columns),
        )
        yield number
        found = judged(view, number, column_N, CURES.get(feature.name, _CURE))
        if found is not None:
            yield found


def at_equal_length(
    view: View, check_name: str, name: str, column_N: Floats, family: int
) -> Number:
    """How often the answer with a feature wins if both are equally long."""
    rows_NK = np.column_stack([column_N, view.form.lengths[:, :2]])
    return win_rate(check_name, name, rows_NK, view.contests.groups, family=family)


def judged(view: View, number: Number, column_N: Floats, cure: str) -> Finding | None:
    """A finding where the win rate, or the loss rate, is above chance for certain."""
    rate = number if number.value >= 0.5 else _turned(number)
    severity = severity_of(rate.low)
    if severity is None:
        return None
    won = rate is number
    side = view.contests.winners if won else view.contests.losers
    telling = side[np.flatnonzero(column_N == (1 if won else -1))]
    subject, result = rate.name.rsplit(" ", 1)
    return Finding(
        number.check,
        severity,
        rate,
        f"{subject[:1].upper()}{subject[1:]} {result} in {rate.said} of the {rate.of} contests "
        "in which only one answer is such, equal length assumed.",
        cure,
        view.ids(view.where(telling[:SHOWN])),
    )


def _turned(number: Number) -> Number:
    """How often it loses."""
    return replace(
        number,
        name=f"{number.name.removesuffix('wins')}loses",
        value=1 - number.value,
        low=1 - number.high,
        high=1 - number.low,
    )
