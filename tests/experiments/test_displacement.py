"""Pairs that differ in their last symbol: both answers fall, and a likelihood term holds them."""

from __future__ import annotations

import pytest

from palate.experiments.displacement import cases, concluded
from palate.experiments.figures import Mean
from palate.experiments.ground import Ground

pytestmark = pytest.mark.slow


def test_chosen_answers_fall_and_a_likelihood_term_holds_them(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    plain, held, thumbs = (by_key[name].run(ground, 0) for name in ("dpo", "dpo-nll", "kto"))
    assert plain[0]["chosen"] == plain[0]["rejected"] == 0
    assert plain[-1]["rejected"] < plain[-1]["chosen"] < -1
    assert held[-1]["chosen"] > -0.2
    assert (plain[-1]["alarm"], held[-1]["alarm"]) == (1, 0)
    assert len(plain) == 11
    assert thumbs[-1]["chosen"] < -1
    assert thumbs[-1]["alarm"] == 1, "KTO's note of its answers with a thumb up"


def test_a_fall_is_one_beyond_two_standard_errors() -> None:
    def mean(line: str, chosen: list[float]) -> Mean:
        return Mean(line, line, 0, {"chosen": chosen, "alarm": [0.0, 1.0]}, 1.0)

    found = concluded([mean("dpo", [-1.0, -1.2]), mean("ipo", [-1.0, 0.5])])
    assert found["dpo"] == {"chosen": -1.1, "falls": True, "told": 0.5}
    assert found["ipo"]["falls"] is False  # −.25 ± .75
