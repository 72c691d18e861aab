"""The table by hand; and that a run which goes wrong is counted, not lost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from palate.experiments import rlhf
from palate.experiments.figures import Mean
from palate.experiments.ground import Ground
from palate.experiments.rlhf import PIPELINES, at_equal_kl, cases, concluded, rows, shown


def test_between_two_points() -> None:
    """√1 is a third of the way from √.25 to √4."""
    points = [(4.0, 3.0), (0.25, 1.0), (math.nan, 9.0), (1.0, math.nan)]
    assert at_equal_kl(points, 1.0) == pytest.approx(1 + 2 / 3)
    assert at_equal_kl(points, 4.0) == 3.0
    assert math.isnan(at_equal_kl(points, 4.1))
    assert math.isnan(at_equal_kl([], 1.0))


def mean(line: str, rate: float, kl: list[float], reward: list[float], wrong: float) -> Mean:
    share = [value / 2 for value in reward]
    each = {"rate": [rate] * 2, "strength": [1.0] * 2, "kl": kl, "reward": reward, "share": share}
    more = {"wrong": [wrong] * 2, "samples": [640.0] * 2, "took": [3.0] * 2}
    return Mean(f"{line} {rate} {kl}", line, 0, each | more, 1.0)


def test_the_table_by_hand() -> None:
    """The second rate has more, but only on one seed; at the first, .75 and 1.25.

    √1 is half of the way from √.25 to √2.25; the first runs' shares of the gain are .25 and .5.
    """
    found = [
        mean("dpo", 1e-3, [0.25, 0.25], [0.5, 1.0], 0.0),
        mean("dpo", 1e-3, [2.25, 2.25], [1.0, 1.5], 0.0),
        mean("dpo", 1e-2, [0.25, 2.0], [9.0, 9.0], 1.0),
        mean("dpo", 1e-2, [2.25, 3.0], [9.0, math.nan], 1.0),
    ]
    (row,) = rows(found)
    assert (row.line, row.stages, row.rate) == ("dpo", 1, 1e-3)
    assert row.reward == pytest.approx(1.0)
    assert row.spread == pytest.approx(0.5 / math.sqrt(2))
    assert row.share == pytest.approx(0.5)
    assert (row.wrong, row.failed) == (0.5, 2 / 8)
    assert (row.models, row.held) == ("policy", 1)
    assert concluded(found)["dpo"]["models"] == "policy"
    assert [one.case for one in shown(found)] == ["dpo"]


def test_the_grid() -> None:
    assert len(cases(None)) == len(PIPELINES) * 12  # type: ignore[arg-type]


def test_a_run_that_stops_is_counted(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(rlhf, "train_offline", stops)
    case = next(case for case in cases(ground.scale) if case.line == "dpo")
    (point,) = case.run(ground, 0)
    assert point["wrong"] == 1
    assert math.isnan(point["reward"])
    assert math.isnan(point["share"])


@pytest.mark.slow
def test_both_sides_train_on_as_many_answers(ground: Ground) -> None:
    """PPO passes over a rollout four times: of 60 steps, 15 draw one."""
    small = replace(ground, scale=replace(ground.scale, pairs=1000))
    by_key = {case.key: case for case in cases(small.scale)}
    (dpo,) = by_key["dpo, beta 0.25, rate 0.001"].run(small, 0)
    (ppo,) = by_key["reward model, ppo, beta 0.25, rate 0.001"].run(small, 0)
    assert (dpo["samples"], ppo["samples"]) == (0, 15 * 128)
    assert (dpo["wrong"], ppo["wrong"]) == (0, 0)
    assert dpo["share"] > 0.5
    assert ppo["share"] > 0.3
