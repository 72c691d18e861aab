from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired

from palate.losses.registry import METHODS, find


def test_at_the_reference() -> None:
    # KL((½, ½) ‖ (0.999, 0.001)) = ½ ln(0.5/0.999) + ½ ln(0.5/0.001) = −0.346073 + 3.107304
    assert losses("exo", [0.0], [0.0]) == pytest.approx([2.761231], abs=1e-6)
    assert METHODS["exo"].initial_loss == pytest.approx(2.761231, abs=1e-6)


def test_values_by_hand() -> None:
    # ε = 0.1; β = ½ and h = 2 ln 3, so σ(z) = 3/4: ¾ ln(0.75/0.9) + ¼ ln(0.25/0.1)
    # = −0.136741 + 0.229073 = 0.092332
    h = 2 * math.log(3)
    given = {"beta": 0.5, "epsilon": 0.1}
    assert losses("exo", [h], [0.0], **given) == pytest.approx([0.092332], abs=1e-6)


def test_it_is_nothing_where_the_policy_is_the_target() -> None:
    # σ(z) = 1 − ε at z = ln((1 − ε)/ε) = ln 9: both KL and gradient are 0
    a = leaf([math.log(9)])
    out = compute("exo", paired(a, [0.0]), beta=1.0, epsilon=0.1)
    assert out.loss_B.tolist() == pytest.approx([0.0], abs=1e-15)
    assert gradients(out, a)[0] == pytest.approx([0.0], abs=1e-15)


def test_it_is_the_reverse_of_what_cdpo_minimises() -> None:
    # cdpo = KL((1−ε, ε) ‖ (σ(z), σ(−z))) + H(ε): the same two distributions, the other way round.
    # At σ(z) = ¾, ε = 0.1: 0.9 ln(0.9/0.75) + 0.1 ln(0.1/0.25) = 0.164089 − 0.091629 = 0.072460
    h, entropy = math.log(3), -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    forward = losses("cdpo", [h], [0.0], beta=1.0, epsilon=0.1)[0] - entropy
    assert forward == pytest.approx(0.072460, abs=1e-6)
    assert losses("exo", [h], [0.0], beta=1.0, epsilon=0.1)[0] == pytest.approx(0.092332, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0, 0.0, -1e-3, 0.5, 1.0])
def test_a_target_without_doubt_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"method\.epsilon of exo must be (above|below)"):
        find({"name": "exo", "epsilon": epsilon})
