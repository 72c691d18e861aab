from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, leaf, losses, paired, softplus, wide

from palate.losses.batch import Context
from palate.losses.bco import bco, count_rewards, mean_reward, start
from palate.losses.dpo import DPO
from palate.losses.registry import METHODS


def at(delta: float) -> Context:
    return Context(statistic={"delta": torch.tensor(delta, dtype=torch.float64)})


def test_at_the_reference_the_loss_is_2_ln_2() -> None:
    assert losses("bco", [0.0], [0.0]) == pytest.approx([2 * math.log(2)], abs=1e-15)
    assert METHODS["bco"].initial_loss == pytest.approx(2 * math.log(2), abs=1e-15)


def test_values_by_hand() -> None:
    # β = ½: rewards (1, 2) and (0, −1), their mean δ = ½.
    # first pair: −log σ(½) − log σ(½); second: −log σ(1.5) − log σ(1.5)
    out = compute("bco", paired([2.0, 4.0], [0.0, -2.0]), beta=0.5)
    expected = [2 * softplus(-0.5), 2 * softplus(-1.5)]
    assert out.loss_B.tolist() == pytest.approx(expected, abs=1e-12)
    assert out.metrics["delta"].tolist() == [0.5, 0.5]


def test_the_mean_runs_over_all_steps_so_far() -> None:
    # after the step above: sum 2 of 4 rewards. Then one pair with rewards 3 and 3: (2 + 6)/(4 + 2)
    params = DPO(beta=0.5)
    state = count_rewards(paired([2.0, 4.0], [0.0, -2.0]), params, start(params))
    assert {name: value.item() for name, value in state.items()} == {
        "reward_sum": 2.0,
        "reward_count": 4.0,
    }
    found = mean_reward(paired([6.0], [6.0]), params, state)
    assert found.shared["delta"].item() == pytest.approx(8 / 6, abs=1e-12)
    assert not found.per_row


def test_the_state_is_a_value() -> None:
    before = start(DPO())
    count_rewards(paired([2.0], [1.0]), DPO(), before)
    mean_reward(paired([2.0], [1.0]), DPO(), before)
    assert [value.item() for value in before.values()] == [0.0, 0.0]


def test_the_mean_has_no_gradient() -> None:
    # at δ = ½: d/da −log σ(βa − δ) = −βσ(δ − βa), here −½ σ(−½)
    a = leaf([2.0, 4.0])
    out = compute("bco", paired(a, [0.0, -2.0]), beta=0.5)
    (found,) = torch.autograd.grad(out.loss_B[0], a)
    assert found.tolist() == pytest.approx([-0.5 / (1 + math.exp(0.5)), 0.0], abs=1e-12)


def test_at_a_fixed_mean_it_sees_what_both_answers_gain() -> None:
    # and where the mean follows, as on the first step, it does not
    calm = bco(paired([2.0], [-1.0]), DPO(1.0), at(0.5)).loss_B.tolist()
    moved = bco(paired([7.0], [4.0]), DPO(1.0), at(0.5)).loss_B.tolist()
    assert calm == pytest.approx([softplus(-1.5) + softplus(-1.5)])
    assert moved == pytest.approx([softplus(-6.5) + softplus(3.5)])
    assert losses("bco", [2.0], [-1.0]) == pytest.approx(losses("bco", [7.0], [4.0]), abs=1e-12)


def test_without_a_mean_it_is_the_peers_form() -> None:
    # −log σ(βa) − log σ(−βb)
    found = bco(paired(wide([3.0]), wide([1.0])), DPO(1.0), at(0.0)).loss_B.tolist()
    assert found == pytest.approx([softplus(-3.0) + softplus(1.0)])
