"""Thumbs that nearly all point one way cost."""

from __future__ import annotations

import random

import pytest

from palate.curate.lint.balance import check
from palate.curate.lint.findings import Finding
from palate.curate.lint.view import View
from palate.experiments import thumbs
from palate.experiments.ground import Ground
from palate.records import Completion, Example, Message


def test_the_alarm_is_what_lint_says(ground: Ground) -> None:
    """Of 1,000 thumbs to questions that nobody asks twice."""
    draw = random.Random(0)
    asked = [
        " ".join("".join(draw.choices("aeiourst", k=6)) for _ in range(8)) for _ in range(1000)
    ]
    said = Message("assistant", "so")
    for up in thumbs.UP:
        ups = round(1000 * up)
        given = [
            Example((Message("user", text),), (Completion((said,), label=number < ups),))
            for number, text in enumerate(asked)
        ]
        warned = any(isinstance(one, Finding) for one in check(View(given, None)))
        assert warned == thumbs.warned(up), up


@pytest.mark.slow
def test_nearly_all_up_costs_reward(ground: Ground) -> None:
    by_key = {case.key: case for case in thumbs.cases(ground.scale)}
    even, up = (by_key[f"kto, {share} up"].run(ground, 0)[-1] for share in ("50%", "98%"))
    bare = by_key["kto without weights, 98% up"].run(ground, 0)[-1]
    assert bare["reward"] < up["reward"] < even["reward"]
    assert (even["alarm"], up["alarm"]) == (0, 1)
