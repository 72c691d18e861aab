from __future__ import annotations

import math

import pytest
from tests.losses.answers import samples, scored
from tests.losses.sides import as_given, compute, gradients, leaf


def advantages(name: str, known: object, **given: float) -> list[float]:
    method, params = as_given(name, **given)
    assert method.credit is not None
    found: list[float] = method.credit(known, params, {}).advantage_N.tolist()  # type: ignore[arg-type]
    return found


def test_each_answer_less_the_mean_of_the_others() -> None:
    # (1, 3, 8): 1 − 5.5, 3 − 4.5, 8 − 2, for each token; G/(G − 1)(r − mean) = 3/2 · (−3, −1, 4)
    known = scored([1.0, 3.0, 8.0], [0, 0, 0], [1, 2, 1])
    assert advantages("rloo", known, beta=0.0) == pytest.approx([-4.5, -1.5, -1.5, 6.0])


def test_the_kl_of_the_whole_answer_is_in_the_reward() -> None:
    # R = (1 − ½ · 3, 3 − ½ · (2 − 4)) = (−½, 4): A = ∓4.5, for every token
    known = scored([1.0, 3.0], [0, 0], [1, 2], ratio=[3.0, 2.0, -4.0])
    assert advantages("rloo", known, beta=0.5) == pytest.approx([-4.5, 4.5, 4.5])


def test_nothing_is_learned_from_a_flat_group_or_from_an_answer_alone() -> None:
    known = scored([2.0, 2.0, 7.0], [0, 0, 1])
    assert advantages("rloo", known, beta=0.0) == [0.0, 0.0, 0.0]


def test_at_first_it_is_reinforce_and_then_clipped() -> None:
    logp = leaf([-1.0, -2.0, -0.5])
    out = compute("rloo", samples(logp, [2.0, 1.0], [3.0, -5.0]), beta=0.0)
    assert out.loss_B.tolist() == [-3.0, 5.0]
    assert gradients(out, logp) == [[-3.0, -3.0, 5.0]]
    # ρ = 1.1 · 1.1 = 1.21 is held at 1.2, although neither token is
    moved = leaf([-1 + math.log(1.1), -1 + math.log(1.1)])
    out = compute("rloo", samples(moved, [2.0], [3.0], old=[-1.0, -1.0]), beta=0.0)
    assert out.loss_B.tolist() == pytest.approx([-3.6], abs=1e-12)
    assert gradients(out, moved) == [[0.0, 0.0]]
