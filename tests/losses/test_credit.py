from __future__ import annotations

import math

import pytest
import torch
from tests.losses.answers import scored
from tests.losses.sides import wide

from palate.losses.credit import (
    flat_share,
    gae_N,
    group_means_B,
    group_stds_B,
    leave_one_out_B,
    spreads_B,
    to_go_N,
    whitened,
)

# Two groups that do not stand together, and one answer on its own.
GROUPS = torch.tensor([0, 1, 0, 2, 1, 0])
VALUES = wide([1.0, 4.0, 3.0, 7.0, 8.0, 8.0])


def gae(
    rewards: list[float], values: list[float], lengths: list[int], gamma: float, lam: float
) -> list[float]:
    found: list[float] = gae_N(
        wide(rewards), wide(values), torch.tensor(lengths), gamma, lam
    ).tolist()
    return found


def test_gae_by_hand() -> None:
    # δ = (0 + ½ − ½, 0 + ½ − ½, 1 − ½) = (0, 0, ½): A = (λ²/2, λ/2, ½)
    found = gae([0.0, 0.0, 1.0], [0.5] * 3, [3], 1.0, 0.95)
    assert found == pytest.approx([0.45125, 0.475, 0.5], abs=1e-12)


def test_gae_discounts() -> None:
    # γ = ½, λ = ½: δ₃ = 4 − 3 = 1; δ₂ = 1 + ½·3 − 2 = ½; δ₁ = 0 + ½·2 − 1 = 0
    # A₃ = 1; A₂ = ½ + ¼·1 = ¾; A₁ = 0 + ¼·¾
    found = gae([0.0, 1.0, 4.0], [1.0, 2.0, 3.0], [3], 0.5, 0.5)
    assert found == pytest.approx([0.1875, 0.75, 1.0], abs=1e-12)


def test_gae_at_lambda_1_is_the_return_less_the_value() -> None:
    # the δ telescope: A_t = Σ_{s ≥ t} γ^{s−t} r_s − V_t; γ = ½: (1 + 1 + 1, 2 + 2, 4) − V
    found = gae([1.0, 2.0, 4.0], [7.0, -1.0, 0.5], [3], 0.5, 1.0)
    assert found == pytest.approx([-4.0, 5.0, 3.5], abs=1e-12)


def test_gae_at_lambda_0_is_one_step() -> None:
    # δ_t = r_t + γV_{t+1} − V_t: 1 − ½ − 7, 2 + ¼ + 1, 4 − ½
    found = gae([1.0, 2.0, 4.0], [7.0, -1.0, 0.5], [3], 0.5, 0.0)
    assert found == pytest.approx([-6.5, 3.25, 3.5], abs=1e-12)


def test_answers_do_not_leak_into_each_other() -> None:
    parts = [
        ([0.0, 1.0, 4.0], [1.0, 2.0, 3.0]),
        ([5.0], [2.0]),
        ([0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 0.5, 3.0]),
    ]
    alone = [a for r, v in parts for a in gae(r, v, [len(r)], 0.9, 0.8)]
    together = gae(
        [x for r, _ in parts for x in r], [x for _, v in parts for x in v], [3, 1, 4], 0.9, 0.8
    )
    assert together == pytest.approx(alone, abs=1e-12)


def test_returns_to_go() -> None:
    rewards, lengths = wide([1.0, 2.0, 4.0, 8.0]), torch.tensor([3, 1])
    assert to_go_N(rewards, lengths).tolist() == [7.0, 6.0, 4.0, 8.0]
    # 1 + ½·2 + ¼·4, 2 + ½·4, 4
    assert to_go_N(rewards, lengths, 0.5).tolist() == [3.0, 4.0, 4.0, 8.0]


def test_whitening() -> None:
    # deviations (−2, 0, 2), variance with n − 1: 8/2 = 4
    found = whitened(wide([1.0, 3.0, 5.0])).tolist()
    assert found == pytest.approx([-1.0, 0.0, 1.0], abs=1e-7)
    assert whitened(wide([2.0, 2.0, 2.0])).tolist() == [0.0, 0.0, 0.0]
    assert whitened(wide([2.0])).tolist() == [0.0]


def test_means_and_standard_deviations_of_groups() -> None:
    # group 0: 1, 3, 8 with mean 4, squares 9 + 1 + 16 over 2; group 1: 4, 8 with 4 + 4 over 1
    assert group_means_B(VALUES, GROUPS).tolist() == [4.0, 6.0, 4.0, 7.0, 6.0, 4.0]
    one, other = math.sqrt(13), math.sqrt(8)
    expected = [one, other, one, 0.0, other, one]
    assert group_stds_B(VALUES, GROUPS).tolist() == pytest.approx(expected, abs=1e-12)


def test_leave_one_out_is_the_reward_less_the_mean_of_the_others() -> None:
    # group 0: 1 − 11/2, 3 − 9/2, 8 − 4/2; group 1: 4 − 8, 8 − 4; alone: no others
    found = leave_one_out_B(VALUES, GROUPS)
    assert found.tolist() == pytest.approx([-4.5, -4.0, -1.5, 0.0, 4.0, 6.0], abs=1e-12)
    # the same by the identity G/(G − 1)·(r − mean)
    size_B = wide([3.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    scale_B = size_B / (size_B - 1).clamp(min=1)
    centred_B = VALUES - group_means_B(VALUES, GROUPS)
    torch.testing.assert_close(found, scale_B * centred_B)


def test_groups_without_spread() -> None:
    # group 1 is flat, and so is the answer on its own: two of three
    values = wide([1.0, 4.0, 3.0, 7.0, 4.0, 8.0])
    assert spreads_B(values, GROUPS).tolist() == [7.0, 0.0, 7.0, 0.0, 0.0, 7.0]
    assert flat_share(values, GROUPS) == pytest.approx(2 / 3)
    assert flat_share(VALUES, GROUPS) == pytest.approx(1 / 3)


def test_what_is_known_of_answers() -> None:
    known = scored([1.0, 2.0], [0, 0], [2, 3], ratio=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert known.last_N.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert known.spread(known.reward_B).tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert known.sums_B(known.ratio_N).tolist() == pytest.approx([3.0, 12.0])
    assert scored([1.0, 2.0], [0, 0]).ratio_N.tolist() == [0.0, 0.0], "no reference"
