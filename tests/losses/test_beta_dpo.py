from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, leaf, losses, paired, softplus, wide

from palate.losses.beta_dpo import BetaDPO, choose, follow, start
from palate.losses.registry import METHODS, find

H = [1.0, 2.0, 3.0, 4.0, 10.0]  # mean 4


def test_at_the_reference_the_step_s_loss_is_ln_2() -> None:
    # four of five pairs weigh 5/4, the last nothing: the mean is ln 2
    found = losses("beta-dpo", [0.0] * 5, [0.0] * 5)
    assert sum(found) / 5 == pytest.approx(math.log(2), abs=1e-15)
    assert METHODS["beta-dpo"].initial_loss == pytest.approx(math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # the running mean begins at 0: β = 0.1 · (1 + 0.6 · 4) = 0.34.
    # 80 % of 5 is 4: 10 is farthest from 0 and has no weight, the others 5/4
    out = compute("beta-dpo", paired(H, [0.0] * 5))
    expected = [1.25 * softplus(-0.34 * h) for h in H[:4]] + [0.0]
    assert out.loss_B.tolist() == pytest.approx(expected, abs=1e-12)
    assert out.metrics["beta"].tolist() == pytest.approx([0.34] * 5)
    assert out.metrics["kept"].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_the_running_mean_and_spread_by_hand() -> None:
    # mean: 0.9 · 0 + 0.1 · 4. Variance of H about 4: (9 + 4 + 1 + 0 + 36)/5 = 10;
    # spread: 0.9 · 1 + 0.1 · √10
    state = follow(paired(H, [0.0] * 5), BetaDPO(), start(BetaDPO()))
    assert state["mean"].item() == pytest.approx(0.4, abs=1e-12)
    assert state["spread"].item() == pytest.approx(0.9 + 0.1 * math.sqrt(10), abs=1e-12)
    # a step at the running mean has β₀
    found = choose(paired([0.4], [0.0]), BetaDPO(), state)
    assert found.shared["beta"].item() == pytest.approx(0.1, abs=1e-12)
    # and one of β₀[1 + 0.6(2.4 − 0.4)]
    found = choose(paired([2.4], [0.0]), BetaDPO(), state)
    assert found.shared["beta"].item() == pytest.approx(0.22, abs=1e-12)


def test_the_pairs_nearest_to_the_running_mean_are_kept() -> None:
    state = {"mean": wide([8.0])[0], "spread": wide([2.0])[0]}
    found = choose(paired(H, [0.0] * 5), BetaDPO(keep=0.4), state)
    # 10 and 4 are 2 and 4 away from 8, the others farther: 5/2 each
    assert found.per_row["weight"].tolist() == [0.0, 0.0, 0.0, 2.5, 2.5]


def test_beta_has_a_floor() -> None:
    # h̄ = −10: 0.1(1 − 6) is negative
    found = choose(paired([-10.0], [0.0]), BetaDPO(), start(BetaDPO()))
    assert found.shared["beta"].item() == pytest.approx(1e-3, abs=1e-15)


def test_neither_beta_nor_the_weights_have_a_gradient() -> None:
    # d/dh −w log σ(βh) = −wβσ(−βh) with β = 0.34 held
    a = leaf(H)
    out = compute("beta-dpo", paired(a, [0.0] * 5))
    (found,) = torch.autograd.grad(out.loss_B.sum(), a)
    expected = [-1.25 * 0.34 / (1 + math.exp(0.34 * h)) for h in H[:4]] + [0.0]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_a_far_outlier_leaves_the_weights_finite() -> None:
    state = {"mean": wide([0.0])[0], "spread": wide([1e-6])[0]}
    h = torch.tensor([1e4, -1e4, 1.0, 2.0])
    found = choose(paired(h, torch.zeros(4)), BetaDPO(keep=0.5), state)
    assert found.per_row["weight"].tolist() == [0.0, 0.0, 2.0, 2.0]


def test_with_nothing_dynamic_it_is_dpo() -> None:
    a, b = [2.0, -3.0], [-1.0, 1.0]
    assert losses("beta-dpo", a, b, alpha=0.0, keep=1.0) == losses("dpo", a, b)


def test_a_step_of_one_pair_keeps_it() -> None:
    found = choose(paired([1.0], [0.0]), BetaDPO(keep=0.1), start(BetaDPO()))
    assert found.per_row["weight"].tolist() == [1.0]


@pytest.mark.parametrize("given", [{"keep": 0}, {"keep": 1.1}, {"momentum": 1}, {"alpha": -1}])
def test_ranges(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "beta-dpo", **given})
