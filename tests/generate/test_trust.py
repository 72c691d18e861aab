"""Mismatch of sampler and trainer: numbers derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate.generate.trust import Mismatch, mismatch, truncated_weights


def test_two_tokens_by_hand() -> None:
    """q = (.5, .25), π = (.25, .5): w = (½, 2), so ess = 2.5² / (2 · 4.25) = .7353."""
    found = mismatch([math.log(0.5), math.log(0.25)], [math.log(0.25), math.log(0.5)])
    assert found.tokens == 2
    assert found.mean == pytest.approx(math.log(2))
    assert found.worst == pytest.approx(math.log(2))
    assert found.kl == pytest.approx(0.0)
    assert found.ess == pytest.approx(6.25 / 8.5)


def test_the_kl_has_the_samplers_sign() -> None:
    """Drawn tokens that the trainer finds less likely: KL(q ‖ π) > 0."""
    assert mismatch([-1.0, -1.0], [-1.5, -1.1]).kl == pytest.approx(0.3)


def test_equal_log_probs_are_worth_all_their_tokens() -> None:
    assert mismatch([-3.0, -0.1], np.array([-3.0, -0.1])) == Mismatch(2, 0.0, 0.0, 0.0, 1.0)
    assert mismatch([], []).ess == 1.0


def test_one_weight_that_outweighs_all_leaves_one_token() -> None:
    found = mismatch([-900.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    assert found.ess == pytest.approx(0.25)


def test_weights_are_ratios_up_to_the_bound() -> None:
    found = truncated_weights([math.log(0.5), math.log(0.1), -800.0], [math.log(0.25)] * 2 + [0.0])
    assert found.tolist() == pytest.approx([0.5, 2.0, 2.0])
    most = truncated_weights([math.log(0.1)], [math.log(0.25)], most=3.0)
    assert most.tolist() == pytest.approx([2.5])


def test_counts_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 log-probs of the sampler and 1 of the trainer"):
        mismatch([0.0, 0.0], [0.0])
