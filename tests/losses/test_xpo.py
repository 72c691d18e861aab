from __future__ import annotations

from dataclasses import replace

import pytest
from tests.losses.sides import compute, gradients, leaf, side, softplus, wide

from palate.losses.batch import Pairs

# The first pair's chosen answer is the reference's, the second's rejected one.
TOLD = {"reference_chosen": wide([1.0, 0.0])}


def pairs() -> Pairs:
    """h = 3 and −1."""
    chosen = side([2.0, 0.0], logp=[-4.0, -5.0])
    rejected = side([-1.0, 1.0], logp=[-6.0, -7.0])
    return Pairs(chosen, rejected, TOLD)


def test_values_by_hand() -> None:
    # −log σ(0.5 · 3) + 0.01 · (−4), −log σ(0.5 · −1) + 0.01 · (−7)
    found = compute("xpo", pairs(), beta=0.5, alpha=0.01).loss_B.tolist()
    assert found == pytest.approx([softplus(-1.5) - 0.04, softplus(0.5) - 0.07], abs=1e-12)


def test_without_alpha_it_is_dpo() -> None:
    found = compute("xpo", pairs(), beta=0.5, alpha=0.0).loss_B.tolist()
    assert found == pytest.approx(compute("dpo", pairs(), beta=0.5).loss_B.tolist(), abs=1e-15)


def test_the_reference_s_answer_becomes_less_likely_and_no_other() -> None:
    w, l = leaf([-4.0, -5.0]), leaf([-6.0, -7.0])  # noqa: E741 the papers' letters
    batch = pairs()
    # the log-ratios stand still: what is left of the gradient is α's, down for the reference's
    moved = Pairs(replace(batch.chosen, logp_B=w), replace(batch.rejected, logp_B=l), TOLD)
    found = gradients(compute("xpo", moved, alpha=0.25), w, l)
    assert found == [[0.25, 0.0], [0.0, 0.25]], "a descent step lowers it"


def test_what_is_reported() -> None:
    out = compute("xpo", pairs(), beta=0.5)
    assert out.metrics["reference_logp"].tolist() == [-4.0, -7.0]
    assert out.metrics["wins"].tolist() == [0.0, 1.0], "the policy's own answer was preferred"
    assert out.metrics["margin"].tolist() == [1.5, -0.5]


def test_the_terms_by_default() -> None:
    expected = [softplus(-0.3) - 4e-5, softplus(0.1) - 7e-5]
    assert compute("xpo", pairs()).loss_B.tolist() == pytest.approx(expected, abs=1e-12)
