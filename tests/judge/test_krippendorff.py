"""Krippendorff's α against published examples and values worked out by hand."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from tests.judge import pandalm

from palate.judge import krippendorff
from palate.judge.krippendorff import Metric, alpha, alpha_draws

GAP = None
# Krippendorff 2011, example C: four observers, twelve units, with gaps.
PUBLISHED = list(
    zip(
        (1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3),
        (GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_published_example(metric: Metric, published: float) -> None:
    found = alpha(PUBLISHED, metric)
    assert found.alpha == pytest.approx(published, abs=5e-4)
    # The last unit has one value, and is not pairable; all but units 2, 6 and 8 agree.
    assert (found.units, found.values, found.agreed) == (11, 40, 8)


def test_two_observers_and_two_values() -> None:
    """Krippendorff 2011, example A: α = .095."""
    meg, owen = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    found = alpha(list(zip(meg, owen, strict=True)))
    # n₀ = 14, n₁ = 6, o₀₁ = 4: α = 1 − (20 − 1) · 4 / (14 · 6).
    assert found.alpha == pytest.approx(1 - 76 / 84)


def test_the_three_metrics_by_hand() -> None:
    units = [(1, 1), (1, 1), (1, 2), (2, 3)]
    # n₁ = 5, n₂ = 2, n₃ = 1, n = 8; o₁₂ = o₂₁ = o₂₃ = o₃₂ = 1.
    # Nominal: Σ o δ² = 4, Σ n n δ² = 2(10 + 5 + 2) = 34, α = 1 − 7·4/34.
    assert alpha(units, "nominal").alpha == pytest.approx(1 - 28 / 34)
    # Interval: δ² = 1, 1, 4 of 12, 23, 13: 4 and 2(10 + 2 + 5·4) = 64.
    assert alpha(units, "interval").alpha == pytest.approx(1 - 28 / 64)
    # Ordinal: δ²₁₂ = (5 + 2 − 3.5)² = 12.25, δ²₂₃ = (2 + 1 − 1.5)² = 2.25,
    # δ²₁₃ = (5 + 2 + 1 − 3)² = 25: 2·14.5 = 29 and 2(10·12.25 + 2·2.25 + 5·25) = 504.
    assert alpha(units, "ordinal").alpha == pytest.approx(1 - 7 * 29 / 504)


def test_a_unit_with_three_values_weighs_by_its_pairs() -> None:
    # (1,1,2): o₁₁ = 2/2, o₁₂ = o₂₁ = 2/2; (2,2): o₂₂ = 2. n₁ = 2, n₂ = 3: 1 − 4·2/(2·6).
    assert alpha([(1, 1, 2), (2, 2)]).alpha == pytest.approx(1 / 3)


def test_the_ends() -> None:
    assert alpha([("a", "a"), ("b", "b")]).alpha == 1
    # Always the other word: n_a = n_b = 2, o_ab = o_ba = 2: 1 − 3·4/8.
    assert alpha([("a", "b"), ("b", "a")]).alpha == pytest.approx(-0.5)
    same = alpha([("a", "a"), ("a", "a", "a")])
    assert (same.alpha, same.units, same.values, same.agreed) == (None, 2, 5, 2)
    nothing = alpha([("a",), (), (None, "b"), (math.nan, 1.0)])
    assert (nothing.alpha, nothing.units) == (None, 0)


def test_what_is_no_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="an ordinal scale is one of numbers, and 'good' is none"):
        alpha([("good", "bad")], "ordinal")
    with pytest.raises(ValueError, match="65 different values"):
        alpha([(n, n) for n in range(65)], "interval")
    assert alpha([(n, n) for n in range(64)], "interval").alpha == 1


def test_draws_are_samples_of_whole_units() -> None:
    # Two units: (a,b) twice in a quarter of all samples: n = (2,2), α = 1 − 3·4/8 = −.5; each
    # once in a half: n = (3,1), α = 1 − 3·2/6 = 0; (a,a) twice in a quarter: no α.
    draws = alpha_draws([("a", "b"), ("a", "a"), ("a",)], seed=3, resamples=10_000)
    counts = Counter(None if math.isnan(d) else round(d, 12) for d in draws)
    assert set(counts) == {-0.5, 0.0, None}
    # Three standard errors of a share of ½ or ¼ of 10,000 are .015.
    assert counts[0.0] / 10_000 == pytest.approx(0.5, abs=0.015)
    assert counts[None] / 10_000 == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_a_draw_is_the_alpha_of_its_sample(metric: Metric) -> None:
    """Resampled one by one, the α has the same distribution: its mean and spread."""
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(200):
        sample = [PUBLISHED[at] for at in rng.integers(0, 11, size=11)]
        found = alpha(sample, metric).alpha
        plain.append(math.nan if found is None else found)
    draws = alpha_draws(PUBLISHED, metric, seed=1, resamples=4_000)
    # The standard error of the mean of 200 is spread / 14; of the spread about spread / 20.
    spread = float(np.nanstd(draws))
    assert np.nanmean(plain) == pytest.approx(np.nanmean(draws), abs=4 * spread / 14)
    assert np.nanstd(plain) == pytest.approx(spread, rel=0.25)


def test_equal_seeds_give_equal_draws() -> None:
    first, again = (alpha_draws(PUBLISHED, "ordinal", 7, 50) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, alpha_draws(PUBLISHED, "ordinal", 8, 50))
    assert alpha_draws([("a",)]).shape == (0,)


def test_blocks_give_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = alpha_draws(PUBLISHED, "ordinal", 7, 50)
    # Five values and ten patterns: 35 numbers a draw, so that 100 hold two draws.
    monkeypatch.setattr(krippendorff, "_NUMBERS_AT_ONCE", 100)
    assert np.array_equal(alpha_draws(PUBLISHED, "ordinal", 7, 50), whole)
    assert np.array_equal(alpha_draws(PUBLISHED, "ordinal", 7, 49), whole[:49])


def plainly(units: Sequence[Sequence[int]]) -> Fraction:
    """Nominal α once more, from the coincidence matrix, with nothing but fractions."""
    o: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for unit in units:
        for one, other in permutations(unit, 2):
            o[one, other] += Fraction(1, len(unit) - 1)
    n: dict[int, Fraction] = defaultdict(Fraction)
    for (one, _), amount in o.items():
        n[one] += amount
    total = sum(n.values())
    differ = sum(amount for (one, other), amount in o.items() if one != other)
    chance = sum(n[one] * n[other] for one in n for other in n if one != other)
    return 1 - (total - 1) * differ / Fraction(chance)


def test_the_annotators_of_a_published_test_set() -> None:
    units = pandalm.units()
    found = alpha(units)
    # 879 of 999 agree; the other 120 hold two words, so that 2 of a unit's 3 pairs differ: the
    # off-diagonal sum is 120 · 4/2 = 240. n₀ = 326, n₁ = 1 255, n₂ = 1 416 of 2 997; by chance all
    # but Σ n² = 106 276 + 1 575 025 + 2 005 056 of n² = 8 982 009 ordered pairs differ.
    assert (found.units, found.values, found.agreed) == (999, 2997, 879)
    assert found.alpha == pytest.approx(1 - 2996 * 240 / (8_982_009 - 3_686_357))
    assert found.alpha == pytest.approx(float(plainly(units)), abs=1e-12)


@pytest.mark.skipif(not pandalm.FILE.is_file(), reason="the shared test data is not here")
def test_the_counts_are_those_of_the_file() -> None:
    assert Counter(pandalm.units_of_the_file()) == Counter(pandalm.units())
