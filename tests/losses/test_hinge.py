from __future__ import annotations

import pytest
from tests.losses.sides import compute, gradients, leaf, likely, losses, paired

from palate.losses.batch import Pairs
from palate.losses.registry import METHODS, find


def test_at_the_reference_the_hinge_is_1() -> None:
    assert losses("hinge", [0.0], [0.0]) == [1.0]
    assert METHODS["hinge"].initial_loss == 1.0


def test_hinge_by_hand() -> None:
    # β = ½: h = 1 leaves 1 − ½; h = 4 is past the margin; h = −2 costs 1 + 1
    a = leaf([1.0, 4.0, -2.0])
    out = compute("hinge", paired(a, [0.0] * 3), beta=0.5)
    assert out.loss_B.tolist() == [0.5, 0.0, 2.0]
    assert gradients(out, a)[0] == [-0.5, 0.0, -0.5]


def test_slic_by_hand() -> None:
    # δ = 2, λ = 0.1. log π −3 against −4: ahead by 1, so 2 − 1 = 1, and 0.1 · 3 = 0.3.
    # −3 against −9: ahead by 6, past δ: only 0.3. −5 against −1: 2 + 4 = 6, and 0.5.
    w, rejected = leaf([-3.0, -3.0, -5.0]), leaf([-4.0, -9.0, -1.0])
    out = compute("slic", Pairs(likely(w), likely(rejected)), delta=2.0, nll=0.1)
    assert out.loss_B.tolist() == pytest.approx([1.3, 0.3, 6.5], abs=1e-12)
    found = gradients(out, w, rejected)
    assert found[0] == pytest.approx([-1.1, -0.1, -1.1])
    assert found[1] == [1.0, 0.0, 1.0]


def test_slic_counts_sums_and_needs_no_reference() -> None:
    # twice the tokens at the same log-probs change nothing
    short = Pairs(likely([-3.0], [2.0]), likely([-4.0], [2.0]))
    long = Pairs(likely([-3.0], [4.0]), likely([-4.0], [8.0]))
    assert compute("slic", short).loss_B.tolist() == compute("slic", long).loss_B.tolist()
    assert not METHODS["slic"].reference
    # the defaults, δ = 1 and λ = 0.1: 1 − 1 + 0.1 · 3
    assert compute("slic", short).loss_B.tolist() == pytest.approx([0.3], abs=1e-12)


@pytest.mark.parametrize("given", [{"delta": 0.0}, {"nll": -0.1}])
def test_ranges(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be (above|at least) 0\.0"):
        find({"name": "slic", **given})
