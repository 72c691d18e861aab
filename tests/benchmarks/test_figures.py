from __future__ import annotations

import math
from dataclasses import replace

import pytest
from benchmarks.racing.course import Course, Pair
from benchmarks.racing.figures import figures, ratio, step_seconds
from benchmarks.racing.report import Race, chart, table
from benchmarks.racing.sample import Entry, Sample

COURSE = Course("W0", (Pair((1, 2), (3,), (4,)),) * 12, ((0, 1, 2, 3),) * 3, even=True)
OURS = Entry("palate", "", "", "lora", "mixed", 1e-4, warm_up=1)
THEIRS = replace(OURS, side="trl", pairs=2)


def ours(seconds: float) -> Sample:
    """Two steady steps that average `seconds`, and a reference of 6 s over 12 pairs: 2 s a step."""
    return Sample(
        digest="",
        seconds=[99.0, seconds - 0.5, seconds + 0.5],
        computed=[1000, 100, 140],
        unique=[1000, 90, 110],
        flops=[1e9, 4e9, 6e9],
        reference_flops=12e9,
        reference_seconds=6.0,
        reference_pairs=12,
        peak_bytes=2**30,
        matmul_peak=4e9,
    )


def theirs(seconds: float) -> Sample:
    """Steps of two pairs; a second of each is the optimizer's."""
    return Sample(
        digest="",
        seconds=[99.0, seconds, seconds],
        optimizer_seconds=[1.0, 1.0, 1.0],
        computed=[500, 150, 210],
        peak_bytes=4 * 2**30,
    )


def test_a_step_carries_the_reference_of_its_pairs() -> None:
    assert step_seconds(ours(8.0), OURS, COURSE) == pytest.approx(8 + 6 / 12 * 4)


def test_a_part_of_a_step_is_scaled_without_the_optimizer() -> None:
    assert step_seconds(theirs(11.0), THEIRS, COURSE) == pytest.approx(2 * 10 + 1)


def test_figures_are_medians_over_rounds() -> None:
    samples = [ours(8.0), ours(18.0), ours(10.0)]
    found = figures(samples, OURS, COURSE, samples)
    assert found.seconds == pytest.approx((10, 20, 12))
    assert found.step == pytest.approx(12)
    assert found.pairs_per_second == pytest.approx(4 / 12)
    assert found.unique_per_second == pytest.approx(100 / 12)
    assert found.computed_per_second == pytest.approx(120 / 12)
    # 5e9 operations of a step and 12e9 / 12 · 4 of the reference, in 12 s at 4e9 a second
    assert found.limit == pytest.approx(9e9 / (12 * 4e9))


def test_the_ratio_is_the_median_of_rounds_and_splits_into_sharing_and_engine() -> None:
    mine, other = [ours(8.0), ours(18.0), ours(10.0)], [theirs(20.5), theirs(20.5), theirs(30.5)]
    a = figures(mine, OURS, COURSE, mine)
    b = figures(other, THEIRS, COURSE, mine)
    assert b.seconds == pytest.approx((40, 40, 60))
    found = ratio(a, b)
    # rounds: 40/10, 40/20, 60/12
    assert (found.median, found.low, found.high) == pytest.approx((4, 2, 5))
    assert found.sharing == pytest.approx(360 / 120)  # 180 tokens of two pairs, scaled to four
    assert found.engine == pytest.approx(4 / 3)
    assert found.memory == pytest.approx(0.25)
    assert math.isclose(found.sharing * found.engine, found.median)


def race() -> Race:
    mine, other = [ours(8.0)], [theirs(20.5)]
    sides = {
        "Palate": figures(mine, OURS, COURSE, mine),
        "TRL tuned": figures(other, THEIRS, COURSE, mine),
    }
    return Race("W0", "a test", "lora", "mixed", sides, {"TRL tuned": ratio(*sides.values())})


def test_the_table_says_what_was_found() -> None:
    text = table(race())
    assert "| Palate | 10.00 | 0.400 | 10 | 12 | 120 | 1.0 | 22.5% |" in text
    assert "| TRL tuned | 40.00 | 0.100 | 2 | 9 | 360 | 4.0 | 5.6% |" in text
    assert (
        "- against TRL tuned: 4.00× (1 round) = sharing 3.00 × engine 1.33; peak memory 0.25×"
        in text
    )
    head, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {head.count("|")} == {rule.count("|")}


def test_the_chart_names_every_race_and_ratio() -> None:
    svg = chart([race()])
    assert svg.startswith("<svg")
    assert "W0 a test (lora)" in svg
    assert "4.0×" in svg
    assert "TRL tuned" in svg
    assert "TRL as it comes" not in svg


def test_the_record_holds_the_rates() -> None:
    raw = race().to_json()
    assert raw["figures"]["Palate"]["pairs_per_second"] == pytest.approx(0.4)
    assert raw["ratios"]["TRL tuned"]["engine"] == pytest.approx(4 / 3)
