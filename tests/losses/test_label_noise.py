from __future__ import annotations

import math

import pytest
from tests.losses.sides import compute, gradients, leaf, losses, paired, softplus

from palate.losses.registry import METHODS, find

A, B = [2.0, -3.0, 0.5, 40.0], [-1.0, 1.0, 0.5, -40.0]


@pytest.mark.parametrize("name", ["cdpo", "robust-dpo"])
def test_at_the_reference_the_loss_is_ln_2(name: str) -> None:
    # σ(0) = ½ either way round: (1 − ε + ε) ln 2, and (1 − ε − ε) ln 2 / (1 − 2ε)
    assert losses(name, [0.0], [0.0], epsilon=0.1) == pytest.approx([math.log(2)], abs=1e-15)
    assert METHODS[name].initial_loss == pytest.approx(0.693147, abs=1e-6)


def test_values_by_hand() -> None:
    # β = ½, a = 2, b = −1: z = 1.5; −log σ(z) = 0.201413 and −log σ(−z) = z more, 1.701413.
    # cdpo: 0.9 · 0.201413 + 0.1 · 1.701413 = 0.351413
    # robust: (0.9 · 0.201413 − 0.1 · 1.701413)/0.8 = 0.0111307/0.8 = 0.013913
    given = {"beta": 0.5, "epsilon": 0.1}
    assert losses("cdpo", [2.0], [-1.0], **given) == pytest.approx([0.351413], abs=1e-6)
    assert losses("robust-dpo", [2.0], [-1.0], **given) == pytest.approx([0.013913], abs=1e-6)


@pytest.mark.parametrize("name", ["cdpo", "robust-dpo"])
def test_without_noise_it_is_dpo(name: str) -> None:
    assert losses(name, A, B, epsilon=0.0) == losses("dpo", A, B)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.4])
def test_over_flips_robust_dpo_is_dpo_on_the_true_labels(epsilon: float) -> None:
    # with s(z) = −log σ(z): (1−ε)[(1−ε)s(z) − εs(−z)] + ε[(1−ε)s(−z) − εs(z)]
    #   = [(1−ε)² − ε²] s(z) = (1 − 2ε) s(z), which the divisor makes s(z)
    right = losses("robust-dpo", A, B, epsilon=epsilon)
    wrong = losses("robust-dpo", B, A, epsilon=epsilon)
    mean = [(1 - epsilon) * r + epsilon * w for r, w in zip(right, wrong, strict=True)]
    assert mean == pytest.approx(losses("dpo", A, B), abs=1e-12)


def test_cdpo_on_true_labels_is_what_dpo_expects_of_flipped_ones() -> None:
    right, wrong = losses("dpo", A, B), losses("dpo", B, A)
    mean = [0.8 * r + 0.2 * w for r, w in zip(right, wrong, strict=True)]
    assert losses("cdpo", A, B, epsilon=0.2) == pytest.approx(mean, abs=1e-12)


def test_cdpo_stops_where_the_label_is_believed_as_often_as_it_is_right() -> None:
    # dL/dz = −(1−ε)σ(−z) + εσ(z) = σ(z) − (1 − ε): at ε = 0.1 it is 0 at z = ln 9
    a, b = leaf([math.log(9) / 0.5]), leaf([0.0])
    found = gradients(compute("cdpo", paired(a, b), beta=0.5, epsilon=0.1), a, b)
    assert found[0] == pytest.approx([0.0], abs=1e-15)
    assert found[1] == pytest.approx([0.0], abs=1e-15)


def test_robust_dpo_pushes_more_than_dpo_and_never_stops() -> None:
    # dL/dz = [−(1−ε)σ(−z) − εσ(z)]/(1−2ε) = −σ(−z) − ε/(1−2ε): at ε = 0.1, β = 1 and z = 3
    # −0.0474259 − 0.125
    a = leaf([3.0])
    out = compute("robust-dpo", paired(a, [0.0]), beta=1.0, epsilon=0.1)
    assert gradients(out, a)[0] == pytest.approx([-0.1724259], abs=1e-7)
    # and so it falls below 0: s(3) − 3ε/(1−2ε)
    assert out.loss_B.tolist() == pytest.approx([softplus(-3.0) - 0.375], abs=1e-12)


@pytest.mark.parametrize("name", ["cdpo", "robust-dpo"])
@pytest.mark.parametrize(("epsilon", "words"), [(0.5, "below 0.5"), (-0.1, "at least 0.0")])
def test_labels_no_better_than_chance_are_refused(name: str, epsilon: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find({"name": name, "epsilon": epsilon})
