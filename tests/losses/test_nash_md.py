from __future__ import annotations

import pytest
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute

from palate.losses.credit import Scored
from palate.losses.registry import METHODS, find


def advantages(known: Scored, **given: float) -> list[float]:
    method, params = as_given("nash-md", **given)
    assert method.credit is not None
    found: list[float] = method.credit(known, params, {}).advantage_N.tolist()
    return found


def test_a_single_answer_is_held_against_one_half() -> None:
    # P = 0.8, log π/π_ref = 0.2 + 0.3: 0.8 − 0.1 · 0.5 − 0.5, for both tokens
    known = scored([0.8], [0], [2], ratio=[0.2, 0.3])
    assert advantages(known, beta=0.1) == pytest.approx([0.25, 0.25], abs=1e-12)


def test_several_answers_are_held_against_each_other() -> None:
    # R = (0.8 − 0.1 · 1, 0.4 + 0.1 · 2) = (0.7, 0.6); another prompt's answer alone: 0.9 − ½
    known = scored([0.8, 0.4, 0.9], [0, 0, 1], ratio=[1.0, -2.0, 0.0])
    assert advantages(known, beta=0.1) == pytest.approx([0.1, -0.1, 0.4], abs=1e-12)


def test_the_opponent_is_the_mixture() -> None:
    method, params = as_given("nash-md", mixture=0.3)
    assert method.online is not None
    assert method.online.mixture is not None
    assert (method.online.judge, method.online.against) == ("preference", "mixture")
    assert method.online.mixture(params) == 0.3
    assert METHODS["nash-md"].online is method.online


@pytest.mark.parametrize("given", [{"mixture": -0.1}, {"mixture": 1.1}, {"beta": 0}])
def test_ranges(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "nash-md", **given}, sampled=True)


def test_the_loss_is_rloo_s() -> None:
    batch = samples([-1.0, -2.0, -0.5], [2.0, 1.0], [3.0, -5.0])
    assert compute("nash-md", batch).loss_B.tolist() == [-3.0, 5.0]
