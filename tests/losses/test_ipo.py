from __future__ import annotations

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, side

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def test_at_the_reference_the_loss_is_25() -> None:
    # τ = 0.1: (0 − 1/0.2)² = 25, for sums as for means
    assert losses("ipo", [0.0], [0.0]) == pytest.approx([25.0], abs=1e-12)
    assert losses("ipo", [0.0], [0.0], tokens="mean") == pytest.approx([25.0], abs=1e-12)
    assert METHODS["ipo"].initial_loss == 25.0


def test_sums_and_means_are_two_definitions() -> None:
    # a = 6 over 3 tokens, b = −4 over 2; τ = ¼, so the target is 2.
    # sums: h = 10, (10 − 2)² = 64; means: h = 2 − (−2) = 4, (4 − 2)² = 4
    batch = Pairs(side([6.0], length=[3.0]), side([-4.0], length=[2.0]))
    assert compute("ipo", batch, tau=0.25).loss_B.tolist() == [64.0]
    assert compute("ipo", batch, tau=0.25, tokens="mean").loss_B.tolist() == [4.0]


def test_it_is_drawn_to_its_target_from_both_sides() -> None:
    # dL/da = 2(h − 1/(2τ)), τ = ½: at h = 0 that is −2, at h = 1 nothing, at h = 3 it is 4
    a = leaf([0.0, 1.0, 3.0])
    assert gradients(compute("ipo", paired(a, [0.0] * 3), tau=0.5), a)[0] == [-2.0, 0.0, 4.0]


def test_it_is_blind_to_what_both_answers_gain() -> None:
    assert losses("ipo", [2.0], [-1.0]) == losses("ipo", [7.0], [4.0])


def test_rewards_are_in_units_of_tau() -> None:
    out = compute("ipo", paired([2.0], [-1.0]), tau=0.5)
    assert out.metrics["margin"].tolist() == [1.5]
    assert out.metrics["abs_h"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("given", "words"),
    [({"tau": 0.0}, "above 0.0"), ({"tokens": "median"}, "one of sum, mean"), ({"beta": 1}, "tau")],
)
def test_mistakes_are_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find({"name": "ipo", **given})


def test_accuracy_is_of_what_the_loss_compares() -> None:
    # a = 6 over 12 tokens, b = 4 over 2: by sums the chosen one is ahead, by means (½, 2) it is not
    batch = Pairs(side([6.0], length=[12.0]), side([4.0], length=[2.0]))
    assert compute("ipo", batch, tau=0.5).metrics["accuracy"].tolist() == [1.0]
    found = compute("ipo", batch, tau=0.5, tokens="mean").metrics
    assert (found["accuracy"].tolist(), found["margin"].tolist()) == ([0.0], [-0.75])
