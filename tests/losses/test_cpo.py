from __future__ import annotations

import pytest
from tests.losses.sides import compute, gradients, leaf, likely, losses, softplus

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def test_cpo_by_hand() -> None:
    # β = ½: ½(−6 + 9) = 1.5, −log σ(1.5) = 0.201413; the likelihood −6 over 3 tokens costs 2
    batch = Pairs(likely([-6.0], [3.0]), likely([-9.0], [2.0]))
    out = compute("cpo", batch, beta=0.5)
    assert out.loss_B.tolist() == pytest.approx([2.201413], abs=1e-6)
    assert out.metrics["margin"].tolist() == [1.5]
    assert out.metrics["nll"].tolist() == [2.0]


def test_without_likelihood_cpo_is_dpo_under_a_uniform_reference() -> None:
    # the same log π_ref for both answers takes itself away: a − b = log π_w − log π_l
    w, rejected = [-6.0, -2.0, -40.0], [-9.0, -5.0, -8.0]
    found = compute("cpo", Pairs(likely(w), likely(rejected)), nll=0.0).loss_B.tolist()
    uniform = -11.0
    expected = losses("dpo", [x - uniform for x in w], [x - uniform for x in rejected])
    assert found == pytest.approx(expected, abs=1e-12)


def test_simpo_with_equal_means_is_softplus_of_gamma() -> None:
    # whatever the lengths: −2 per token each. γ = 2 · 0.5 = 1: log(1 + e)
    batch = Pairs(likely([-6.0], [3.0]), likely([-20.0], [10.0]))
    assert compute("simpo", batch).loss_B.tolist() == pytest.approx([softplus(1.0)], abs=1e-12)
    found = compute("simpo", batch, beta=10.0, gamma_ratio=0.3).loss_B.tolist()
    assert found == pytest.approx([softplus(3.0)], abs=1e-12)


def test_simpo_by_hand() -> None:
    # β = 2, γ = 0.5: 2(−2 + 3) − 0.5 = 1.5. dL/dlog π_w = −β/L_w σ(−1.5) = −⅔ · 0.182426
    w, rejected = leaf([-6.0]), leaf([-6.0])
    out = compute("simpo", Pairs(likely(w, [3.0]), likely(rejected, [2.0])), gamma_ratio=0.25)
    assert out.loss_B.tolist() == pytest.approx([0.201413], abs=1e-6)
    found = gradients(out, w, rejected)
    assert found[0] == pytest.approx([-0.121617], abs=1e-6)
    assert found[1] == pytest.approx([0.182426], abs=1e-6)
    assert out.metrics["margin"].tolist() == [2.0]


@pytest.mark.parametrize("name", ["cpo", "simpo"])
def test_no_reference_is_needed(name: str) -> None:
    assert not METHODS[name].reference
    assert METHODS[name].initial_loss is None


@pytest.mark.parametrize(
    "given",
    [
        {"name": "cpo", "beta": 0},
        {"name": "cpo", "nll": -1},
        {"name": "simpo", "beta": 0},
        {"name": "simpo", "gamma_ratio": -0.1},
    ],
)
def test_ranges(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find(given)
