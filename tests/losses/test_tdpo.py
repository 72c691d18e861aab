from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, side, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


@pytest.mark.parametrize("name", ["tdpo", "tdpo1"])
def test_at_the_reference_the_loss_is_ln_2(name: str) -> None:
    batch = Pairs(side([0.0], kl=[0.0]), side([0.0], kl=[0.0]))
    assert compute(name, batch).loss_B.tolist() == pytest.approx([math.log(2)], abs=1e-15)
    assert METHODS[name].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # h = 3 − 1 = 2, D_w = ½, D_l = 1.5; β = ½.
    # tdpo at α = ½: h − ½ · 1 = 1.5, z = 0.75; tdpo1: h − 1 = 1, z = 0.5
    batch = Pairs(side([3.0], kl=[0.5]), side([1.0], kl=[1.5]))
    out = compute("tdpo", batch, beta=0.5)
    assert out.loss_B.tolist() == pytest.approx([softplus(-0.75)], abs=1e-12)
    assert out.metrics["chosen_kl"].tolist() == [0.5]
    assert out.metrics["rejected_kl"].tolist() == [1.5]
    first = compute("tdpo1", batch, beta=0.5).loss_B.tolist()
    assert first == pytest.approx([softplus(-0.5)], abs=1e-12)
    assert compute("tdpo", batch, beta=0.5, alpha=1.0).loss_B.tolist() == first


def test_drift_on_rejected_answers_is_punished_and_that_on_chosen_ones_held() -> None:
    # dL/dD_l = αβσ(−z) for both. dL/dD_w is 0 behind the stop-gradient; tdpo1 has none and
    # pays for drift on the chosen answer: −βσ(−z). At z = 0, β = ½: ½ · ½ · ½ and ½ · ½
    w, rejected = leaf([1.0]), leaf([1.0])
    batch = Pairs(side([0.0], kl=w), side([0.0], kl=rejected))
    second = gradients(compute("tdpo", batch, beta=0.5), w, rejected)
    assert second == [[0.0], [pytest.approx(0.125)]]
    first = gradients(compute("tdpo1", batch, beta=0.5), w, rejected)
    assert first == [[pytest.approx(-0.25)], [pytest.approx(0.25)]]


def test_without_drift_it_is_dpo() -> None:
    a, b, kl = [2.0, -3.0], [-1.0, 1.0], [0.7, 0.2]
    batch = Pairs(side(a, kl=kl), side(b, kl=kl))
    assert compute("tdpo", batch).loss_B.tolist() == losses("dpo", a, b)
    assert compute("tdpo1", batch).loss_B.tolist() == losses("dpo", a, b)


@pytest.mark.parametrize("name", ["tdpo", "tdpo1"])
def test_it_needs_the_reference_at_every_step(name: str) -> None:
    assert METHODS[name].sums == ("kl",)
    assert METHODS[name].live_only == "it reads the reference's whole distribution"
    assert METHODS["dpo"].live_only is None
    with pytest.raises(ValueError, match="alpha"):
        find({"name": name, "alpha": -1})
