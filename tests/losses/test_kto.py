from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from tests.losses.sides import compute, gradients, leaf, losses, side, sigmoid
from torch import Tensor

from palate.losses.batch import Labelled
from palate.losses.kto import KTO, from_counts
from palate.losses.method import Counts
from palate.losses.registry import METHODS, find


def thumbs(ratio: Sequence[float] | Tensor, up: Sequence[float]) -> Labelled:
    return Labelled(side(ratio), torch.tensor(up))


def elsewhere(*ratios: float) -> Labelled:
    """Prompts with other prompts' completions; their labels mean nothing."""
    return thumbs(ratios, [1.0] * len(ratios))


def test_at_the_reference_the_mean_is_one_half() -> None:
    # σ(0) = ½ for either thumb, while both weights are 1
    found = compute("kto", thumbs([0.0, 0.0, 0.0], [1, 0, 1]), elsewhere(0.0)).loss_B
    assert found.tolist() == [0.5, 0.5, 0.5]
    assert METHODS["kto"].initial_loss == 0.5


def test_values_by_hand() -> None:
    # z₀ = mean(3, −1) = 1. β = ½, r = 3: up 1 − σ(1) = 0.268941, down 1 − σ(−1) = 0.731059
    out = compute("kto", thumbs([3.0, 3.0], [1, 0]), elsewhere(3.0, -1.0), beta=0.5)
    assert out.loss_B.tolist() == pytest.approx([0.268941, 0.731059], abs=1e-6)
    assert out.metrics["drift"].tolist() == [1.0, 1.0]
    assert out.metrics["margin"].tolist() == [1.0, -1.0]
    assert out.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert out.metrics["reward"].tolist() == [1.5, 1.5]
    assert out.metrics["up"].tolist() == [1.0, 0.0]
    assert out.metrics["up_reward"].tolist() == [1.5, 0.0]


def test_weights_belong_to_thumbs() -> None:
    out = compute("kto", thumbs([0.0, 0.0], [1, 0]), elsewhere(0.0), desirable=1.2, undesirable=3.0)
    assert out.loss_B.tolist() == pytest.approx([0.6, 1.5])


def test_the_drift_is_never_negative() -> None:
    batch = thumbs([1.0, -2.0], [1, 0])
    below = compute("kto", batch, elsewhere(-5.0, 1.0)).loss_B.tolist()
    assert below == compute("kto", batch, elsewhere(0.0)).loss_B.tolist()


def test_without_drift_it_is_half_of_apo_zero() -> None:
    # the mean over the two answers of a pair: ½[1 − σ(βa) + 1 − σ(−βb)] = ½[1 − σ(βa) + σ(βb)]
    a, b = [2.0, -3.0, 0.1], [-1.0, 1.0, 40.0]
    up = compute("kto", thumbs(a, [1.0] * 3), elsewhere(0.0)).loss_B.tolist()
    down = compute("kto", thumbs(b, [0.0] * 3), elsewhere(0.0)).loss_B.tolist()
    mean = [(x + y) / 2 for x, y in zip(up, down, strict=True)]
    assert mean == pytest.approx([x / 2 for x in losses("apo-zero", a, b)], abs=1e-12)


def test_it_sees_what_all_answers_gain() -> None:
    # β = 1: 1 − σ(2) and 1 − σ(1) become 1 − σ(7) and 1 − σ(−4)
    calm = compute("kto", thumbs([2.0, -1.0], [1, 0]), elsewhere(0.0), beta=1.0)
    moved = compute("kto", thumbs([7.0, 4.0], [1, 0]), elsewhere(0.0), beta=1.0)
    assert calm.loss_B.tolist() == pytest.approx([0.119203, 0.268941], abs=1e-6)
    assert moved.loss_B.tolist() == pytest.approx([0.000911, 0.982014], abs=1e-6)


def test_gradient_by_hand() -> None:
    # up: −βσ'(β(r − z₀)) = −½ · ¼ at r = z₀; down the same upwards. Far from z₀ on either side
    # there is none: value has limits
    ratio = leaf([2.0, 2.0, 200.0, -200.0])
    found = gradients(compute("kto", thumbs(ratio, [1, 0, 0, 1]), elsewhere(2.0), beta=0.5), ratio)
    assert found[0] == pytest.approx([-0.125, 0.125, 0.0, 0.0], abs=1e-12)


def test_the_drift_has_no_gradient() -> None:
    other = leaf([2.0])
    out = compute("kto", thumbs(leaf([1.0]), [1]), thumbs(other, [1]))
    assert gradients(out, other) == [[0.0]]
    assert METHODS["kto"].mismatched


def weighted_ratio(params: KTO, counts: Counts) -> float:
    assert params.desirable is not None
    assert params.undesirable is not None
    return params.desirable * counts.desirable / (params.undesirable * counts.undesirable)


@pytest.mark.parametrize(
    ("up", "down", "desirable", "undesirable"),
    [
        (50, 50, 1.0, 1.0),  # 1 already
        (8, 7, 1.0, 1.0),  # 8/7 lies between 1 and 4/3
        (10, 90, 9.0, 1.0),  # 9 · 10 = 90
        (90, 10, 1.0, 6.75),  # 90/(6.75 · 10) = 4/3
    ],
)
def test_weights_from_the_counts(up: int, down: int, desirable: float, undesirable: float) -> None:
    found = from_counts(KTO(), Counts(up + down, up, down))
    assert (found.desirable, found.undesirable) == pytest.approx((desirable, undesirable))


@pytest.mark.parametrize("given", [{}, {"desirable": 2.0}, {"undesirable": 0.3}])
def test_weighted_counts_lie_between_1_and_four_thirds(given: dict[str, float]) -> None:
    _, params = find({"name": "kto", **given})
    for up in (1, 3, 10, 400, 5000):
        for down in (1, 7, 10, 360, 9000):
            counts = Counts(up + down, up, down)
            found = from_counts(params, counts)
            assert 1 - 1e-12 <= weighted_ratio(found, counts) <= 4 / 3 + 1e-12
            for name, value in given.items():
                assert getattr(found, name) == value


def test_weights_of_the_recipe_stay_and_one_kind_of_thumb_weighs_1() -> None:
    both = KTO(desirable=1.0, undesirable=1.0)
    assert from_counts(both, Counts(100, 1, 99)) == both
    assert from_counts(KTO(), Counts(3, 3, 0)) == KTO(desirable=1.0, undesirable=1.0)
    assert from_counts(KTO(desirable=2.0), Counts(3, 0, 3)).desirable == 2.0


def test_a_single_thumb_s_value_lies_between_0_and_its_weight() -> None:
    ratio = [-1e4, -10.0, 0.0, 10.0, 1e4]
    found = compute("kto", thumbs(ratio, [1] * 5), elsewhere(0.0), desirable=2.0).loss_B.tolist()
    assert found == pytest.approx([2.0, 2 * sigmoid(1.0), 1.0, 2 * sigmoid(-1.0), 0.0])
    assert not any(math.isnan(value) for value in found)


@pytest.mark.parametrize("given", [{"desirable": 0}, {"undesirable": -1}, {"desirable": "auto"}])
def test_ranges(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "kto", **given})
