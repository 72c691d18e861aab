from __future__ import annotations

import pytest
from tests.losses.sides import compute, gradients, leaf, likely, losses, side, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def test_each_answer_counts_the_same_however_long() -> None:
    # −log π(y_w)/L_w: 6/3 = 2 and 20/40 = 0.5, not (6 + 20)/(3 + 40)
    batch = Pairs(likely([-6.0, -20.0], [3.0, 40.0]), likely([-1.0, -2.0]))
    assert compute("nll", batch).loss_B.tolist() == [2.0, 0.5]
    assert not METHODS["nll"].reference
    assert METHODS["nll"].normalise == "examples"


def test_the_rejected_answer_has_no_part_in_the_likelihood() -> None:
    w, rejected = leaf([-6.0]), leaf([-1.0])
    out = compute("nll", Pairs(likely(w, [3.0]), likely(rejected)))
    assert gradients(out, w, rejected) == [[pytest.approx(-1 / 3)], [0.0]]


def test_dpo_with_likelihood_by_hand() -> None:
    # β = ½, a = 2, b = −1: −log σ(1.5) = 0.201413; α = 0.2, log π(y_w) = −6 over 3: 0.2 · 2 = 0.4
    batch = Pairs(side([2.0], logp=[-6.0], length=[3.0]), side([-1.0], logp=[-9.0]))
    out = compute("dpo-nll", batch, beta=0.5, alpha=0.2)
    assert out.loss_B.tolist() == pytest.approx([0.601413], abs=1e-6)
    assert out.metrics["nll"].tolist() == [2.0]


def test_without_likelihood_it_is_dpo() -> None:
    a, b = [2.0, -3.0], [-1.0, 1.0]
    assert losses("dpo-nll", a, b, alpha=0.0) == losses("dpo", a, b)


def test_the_likelihood_pulls_the_chosen_answer_alone() -> None:
    # the policy's log-prob enters twice, as log-ratio and as likelihood: −βσ(−z) − α/L_w
    a, b = leaf([2.0]), leaf([-1.0])
    batch = Pairs(side(a, length=[4.0]), side(b, length=[2.0]))
    push = 0.5 * (1 - 1 / (1 + 2.718281828459045**-1.5))  # βσ(−1.5)
    found = gradients(compute("dpo-nll", batch, beta=0.5, alpha=1.0), a, b)
    assert found[0] == pytest.approx([-push - 0.25], abs=1e-12)
    assert found[1] == pytest.approx([push], abs=1e-12)


def test_the_default_weight_is_the_papers() -> None:
    # arXiv 2404.19733: α = 1
    batch = Pairs(side([0.0], logp=[-6.0], length=[3.0]), side([0.0]))
    assert compute("dpo-nll", batch).loss_B.tolist() == pytest.approx([softplus(0.0) + 2.0])
    with pytest.raises(ValueError, match=r"at least 0\.0"):
        find({"name": "dpo-nll", "alpha": -1})
