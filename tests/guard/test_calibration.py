"""Temperature and bias that are known are found again; errors of calibration by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate.evaluate.intervals import wilson
from palate.guard.calibration import (
    Bin,
    Calibration,
    brier,
    calibration_error,
    fit_calibration,
    log_loss,
    reliability,
    sigmoid,
)


def test_a_known_temperature_and_bias_are_recovered() -> None:
    """Standard errors at 100,000 rows: about 0.01 of the slope and of the bias."""
    rng = np.random.default_rng(0)
    scores = 3 * rng.standard_normal(100_000) + 1
    truth = Calibration(temperature=2.5, bias=-0.7)
    unsafe = rng.random(100_000) < truth.probabilities(scores)
    found = fit_calibration(scores, unsafe)
    assert found.temperature == pytest.approx(2.5, rel=0.03)
    assert found.bias == pytest.approx(-0.7, abs=0.03)


def test_two_scores_are_fitted_exactly() -> None:
    """With two distinct scores the fit meets the mean target at each.

    At 0: 1 unsafe of 4; at 2: 2 unsafe of 3. n₁ = 3, n₀ = 4, so the targets are 4/5 and 1/6:
    the means are (4/5 + 3/6)/4 = 13/40 and (2·4/5 + 1/6)/3 = 53/90.
    """
    scores = np.array([0.0, 0, 0, 0, 2, 2, 2])
    unsafe = np.array([True, False, False, False, True, True, False])
    found = fit_calibration(scores, unsafe)
    low, high = math.log(13 / 27), math.log(53 / 37)
    assert found.bias == pytest.approx(low, abs=1e-8)
    assert found.temperature == pytest.approx(2 / (high - low), rel=1e-8)


def test_separated_classes_give_finite_numbers() -> None:
    scores = np.array([-9.0, -8, 8, 9])
    found = fit_calibration(scores, scores > 0)
    p = found.probabilities(scores)
    assert p == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.02), "targets 3/4 and 1/4"


def test_the_scale_of_the_scores_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal(300)
    unsafe = rng.random(300) < sigmoid(2 * scores)
    plain = fit_calibration(scores, unsafe)
    scaled = fit_calibration(1e4 * scores + 5e5, unsafe)
    assert scaled.probabilities(1e4 * scores + 5e5) == pytest.approx(
        plain.probabilities(scores), abs=1e-7
    )


@pytest.mark.parametrize(
    ("scores", "unsafe", "said"),
    [
        ([1, 2, 3], [True, True, True], "all 3 held-out rows are unsafe"),
        ([1, 2, 3], [False, False, False], "all 3 held-out rows are safe"),
        ([1, 1, 1], [True, False, True], "the same score"),
        ([1, 2, 3, 4], [True, True, False, False], "safe rows above unsafe"),
    ],
)
def test_what_cannot_be_calibrated_is_said(
    scores: list[float], unsafe: list[bool], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        fit_calibration(np.array(scores, dtype=float), np.array(unsafe))


def test_brier_and_log_loss_by_hand() -> None:
    """p = 0.8 of an unsafe row and 0.4 of a safe one: (0.04 + 0.16)/2, −(ln 0.8 + ln 0.6)/2."""
    p, unsafe = np.array([0.8, 0.4]), np.array([True, False])
    assert brier(p, unsafe) == pytest.approx(0.1)
    odds = np.log(p / (1 - p))
    assert log_loss(odds, unsafe) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert log_loss(np.array([1000.0]), np.array([False])) == pytest.approx(1000)


def test_bins_hold_equal_numbers_and_ties_stay_together() -> None:
    """Six rows, three bins; the three of 0.2 begin in the first and fill it and half the next."""
    p = np.array([0.9, 0.2, 0.2, 0.5, 0.2, 0.7])
    unsafe = np.array([True, False, True, False, False, True])
    found = reliability(p, unsafe, bins=3)
    assert [one.rows for one in found] == [3, 1, 2]
    assert [one.predicted for one in found] == pytest.approx([0.2, 0.5, 0.8])
    assert [one.observed for one in found] == pytest.approx([1 / 3, 0, 1])
    assert found[0].interval == wilson(1, 3)


def test_the_error_weighs_bins_by_their_rows() -> None:
    """3/6 · |0.2 − 1/3| + 1/6 · 0.5 + 2/6 · 0.2 = 1/15 + 1/12 + 1/15 = 13/60."""
    bins = [
        Bin(3, 0.2, 1 / 3, (0, 1)),
        Bin(1, 0.5, 0.0, (0, 1)),
        Bin(2, 0.8, 1.0, (0, 1)),
    ]
    assert calibration_error(bins) == pytest.approx(13 / 60)


def test_the_logistic_function_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
