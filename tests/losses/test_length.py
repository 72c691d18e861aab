from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, side, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def test_at_the_reference_the_loss_is_ln_2() -> None:
    batch = Pairs(
        side([0.0], length=[7.0], common_ratio=[0.0]), side([0.0], length=[3.0], common_ratio=[0.0])
    )
    for name in ("ln-dpo", "ld-dpo"):
        assert compute(name, batch).loss_B.tolist() == pytest.approx([math.log(2)], abs=1e-15)
        assert METHODS[name].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_means_in_place_of_sums() -> None:
    # a = 6 over 3 tokens, b = −4 over 2: 2 − (−2) = 4; at β = 5, the default, z = 20
    batch = Pairs(side([6.0], length=[3.0]), side([-4.0], length=[2.0]))
    out = compute("ln-dpo", batch)
    assert out.loss_B.tolist() == pytest.approx([softplus(-20.0)], rel=1e-12)
    assert out.metrics["margin"].tolist() == [20.0]
    assert compute("ln-dpo", batch, beta=0.25).loss_B.tolist() == pytest.approx([softplus(-1.0)])


def test_the_tail_of_the_longer_answer_is_discounted() -> None:
    # L_w = 5, L_l = 3. Of a = 4 the first three tokens hold 1, the tail 3; b = −1 is all common.
    # α = ½: a' = 1 + 1.5 = 2.5, h = 3.5, at β = ½ z = 1.75
    a, common = leaf([4.0]), leaf([1.0])
    batch = Pairs(
        side(a, length=[5.0], common_ratio=common),
        side([-1.0], length=[3.0], common_ratio=[-1.0]),
    )
    out = compute("ld-dpo", batch, beta=0.5, alpha=0.5)
    assert out.loss_B.tolist() == pytest.approx([softplus(-1.75)], abs=1e-12)
    # a' = α a + (1 − α) common: half of the push for each
    push = -0.5 * 0.5 / (1 + math.exp(1.75))
    assert gradients(out, a, common) == [[pytest.approx(push)], [pytest.approx(push)]]


def test_with_a_tail_of_full_weight_it_is_dpo_and_with_none_only_the_common_part() -> None:
    a, b = [4.0, 0.5], [-1.0, 2.0]
    chosen, rejected = side(a, common_ratio=[1.0, 0.5]), side(b, common_ratio=[-1.0, 0.25])
    batch = Pairs(chosen, rejected)
    assert compute("ld-dpo", batch, alpha=1.0).loss_B.tolist() == pytest.approx(losses("dpo", a, b))
    common = losses("dpo", [1.0, 0.5], [-1.0, 0.25])
    assert compute("ld-dpo", batch, alpha=0.0).loss_B.tolist() == pytest.approx(common)


def test_longer_chosen_answers_get_less_push() -> None:
    # dL/da = −βσ(−(z + α(L_w − L_l))): with z = 0, α = 0.1 and β = 1, lengths 20 and 10 give
    # −σ(−1) = −0.268941, equal ones −½, 10 and 20 −σ(1) = −0.731059
    a = leaf([0.0, 0.0, 0.0])
    lengths = ([20.0, 10.0, 10.0], [10.0, 10.0, 20.0])
    batch = Pairs(side(a, length=lengths[0]), side([0.0] * 3, length=lengths[1]))
    out = compute("length-dpo", batch, beta=1.0, alpha=0.1)
    push = [-x for x in gradients(out, a)[0]]
    assert push == pytest.approx([0.268941, 0.5, 0.731059], abs=1e-6)
    assert push[0] < push[1] < push[2]
    assert out.loss_B.tolist() == pytest.approx([softplus(-1.0), softplus(0.0), softplus(1.0)])


def test_between_answers_of_equal_length_the_penalty_is_nothing() -> None:
    a, b = [2.0, -3.0], [-1.0, 1.0]
    assert losses("length-dpo", a, b, alpha=3.0) == losses("dpo", a, b)
    # by default a token costs 0.01
    batch = Pairs(side([0.0], length=[110.0]), side([0.0], length=[10.0]))
    assert compute("length-dpo", batch).loss_B.tolist() == pytest.approx([softplus(-1.0)])


@pytest.mark.parametrize(
    "given",
    [
        {"name": "ln-dpo", "beta": 0},
        {"name": "ld-dpo", "alpha": 1.1},
        {"name": "ld-dpo", "alpha": -0.1},
        {"name": "length-dpo", "beta": -1},
    ],
)
def test_ranges(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find(given)
