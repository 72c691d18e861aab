"""A taste for length is learned, alarms say so, and a penalty of its size undoes it."""

from __future__ import annotations

import pytest

from palate.experiments.ground import Ground
from palate.experiments.length import _pairs, cases

pytestmark = pytest.mark.slow


def test_a_taste_for_length_costs_reward_and_a_penalty_gives_some_back(ending: Ground) -> None:
    by_key = {case.key: case for case in cases(ending.scale)}
    keys = ("dpo, 0 a token", "dpo, 1 a token", "length-dpo, 1 a token")
    none, taste, told = (by_key[key].run(ending, 0)[-1] for key in keys)
    assert abs(none["drift"]) < 0.1
    assert (none["alarm"], none["noted"]) == (0, 0)
    assert taste["drift"] > 0.2
    assert (taste["alarm"], taste["warned"]) == (1, 1)
    assert told["tokens"] < taste["tokens"] - 0.8
    assert abs(told["drift"]) < 0.15, "its optimum has no length in it"
    assert taste["share"] < told["share"] - 0.15


def test_balanced_pairs_have_the_longer_answer_win_as_often(ending: Ground) -> None:
    tokens = ending.world.tokens_A
    pairs = _pairs(ending, 0, 1.0, balanced=True)
    gap = tokens[pairs.chosen] - tokens[pairs.rejected]
    assert int((gap > 0).sum()) == int((gap < 0).sum()) > 100
    whole = _pairs(ending, 0, 1.0, balanced=False)
    assert len(whole) == 2000
    assert len(pairs) < len(whole)
