"""More pairs are better, and pairs that are kept apart say when to stop."""

from __future__ import annotations

import math

import pytest

from palate.experiments.few_pairs import cases
from palate.experiments.ground import FULL, Ground


def test_counts_end_where_the_scale_does(ground: Ground) -> None:
    ends = [
        max(int(case.key.split(", ")[-1].split()[0].replace(",", "")) for case in cases(scale))
        for scale in (ground.scale, FULL)
    ]
    assert ends == [3000, 30_000]


@pytest.mark.slow
def test_more_pairs_are_better(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    few, many = (by_key[f"dpo, {count} pairs"].run(ground, 0)[-1] for count in ("100", "3,000"))
    assert many["reward"] > few["reward"] + 0.1
    assert many["share"] > few["share"] + 0.1
    best = by_key["dpo, best held-out, 100 pairs"].run(ground, 0)[-1]
    assert best["kl"] < few["kl"], "it stops before it has gone as far"
    assert best["alarm"] == 1, "its held-out loss rose again"
    assert math.isnan(few["alarm"]), "nothing is kept apart"
