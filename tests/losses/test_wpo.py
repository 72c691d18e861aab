from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, side, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS
from palate.losses.wpo import weight_B


def test_values_by_hand() -> None:
    # chosen: 2 tokens, log π = −4, Σ log Σπ² = −2: e^((−4 + 2)/2) = e^−1
    # rejected: 4 tokens, −3 and −5: e^((−3 + 5)/4) = e^½. Together e^−½ times dpo at z = 1.5
    batch = Pairs(
        side([2.0], logp=[-4.0], length=[2.0], log_sum_p2=[-2.0]),
        side([-1.0], logp=[-3.0], length=[4.0], log_sum_p2=[-5.0]),
    )
    out = compute("wpo", batch, beta=0.5)
    assert out.loss_B.tolist() == pytest.approx([math.exp(-0.5) * softplus(-1.5)], abs=1e-12)
    assert out.metrics["weight"].tolist() == pytest.approx([math.exp(-0.5)])
    assert METHODS["wpo"].sums == ("log_sum_p2",)


def test_a_policy_that_knows_nothing_weighs_every_answer_1() -> None:
    # π = 1/V: log π = −ln V and Σ π² = 1/V, so the exponent is 0 however long the answer
    for length in (1.0, 7.0):
        one = -length * math.log(100)
        answer = side([0.0], logp=[one], length=[length], log_sum_p2=[one])
        assert weight_B(answer).tolist() == pytest.approx([1.0])


def test_with_weights_of_1_it_is_dpo() -> None:
    a, b = [2.0, -3.0], [-1.0, 1.0]
    batch = Pairs(side(a, logp=[-9.0] * 2, log_sum_p2=[-9.0] * 2), side(b, log_sum_p2=[0.0] * 2))
    equal = Pairs(batch.chosen, side(b, logp=[-5.0] * 2, log_sum_p2=[-5.0] * 2))
    assert compute("wpo", equal).loss_B.tolist() == losses("dpo", a, b)


def test_the_weight_has_no_gradient() -> None:
    # with β = 1 and z = 0: −w/2 for the log-ratio, nothing for the log-prob in the weight
    ratio, logp = leaf([0.0]), leaf([-4.0])
    batch = Pairs(
        side(ratio, logp=logp, log_sum_p2=[-3.0]),
        side([0.0], logp=[-1.0], log_sum_p2=[-1.0]),
    )
    found = gradients(compute("wpo", batch, beta=1.0), ratio, logp)
    assert found == [[pytest.approx(-0.5 * math.exp(-1))], [0.0]]
