"""Best of n: what is chosen, what the choice gains, and how far it may go."""

from __future__ import annotations

import json
import math

import pytest
from tests.rollout.tasks import example

from palate.judge.opinion import Score
from palate.rollout.best import Judged, demonstrations, kl_bound, pairs, summarise


def judged(number: int, *values: float | None) -> Judged:
    """Answers "a", "b", … with these scores; 1 and more passes."""
    texts = tuple("abcdef"[: len(values)])
    scores = tuple(Score(v, None if v is None else v >= 1) for v in values)
    return Judged(example(number), texts, (True,) * len(values), scores)


def test_the_bound() -> None:
    """n = 1 changes nothing; n = 2: ln 2 − 1/2; n = 4: ln 4 − 3/4."""
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    assert kl_bound(4) == pytest.approx(2 * math.log(2) - 0.75)


def test_what_the_choice_gains() -> None:
    """Means 1 and ½, bests 2 and 1; the failed answer counts for neither, the silent prompt too."""
    found = [judged(1, 0.0, 2.0, 1.0), judged(2, 1.0, 0.0, None), judged(3, None, None, None)]
    summary = summarise(found, 3, unasked=2)
    assert (summary.prompts, summary.failed, summary.left_out) == (2, 4, 3)
    assert summary.one == pytest.approx((1.0 + 0.5) / 2)
    assert summary.best == pytest.approx((2.0 + 1.0) / 2)
    assert summary.passed_one == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert summary.passed_best == 1.0
    assert summary.bound == kl_bound(3)


def test_the_best_becomes_a_demonstration_and_beats_the_worst() -> None:
    found = [judged(1, 0.0, 2.0, 1.0), judged(2, 1.0, 1.0), judged(3, None, 0.5)]
    best = [json.loads(row) for row in demonstrations(found)]
    assert [row["completion"][0]["content"] for row in best] == ["b", "a", "b"]
    (pair,) = (json.loads(row) for row in pairs(found))  # equal ones and single ones are no pair
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("b", "a")
