"""Rise, peak and fall by hand; and a short run of a weak tie and of the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from palate.experiments.figures import Mean
from palate.experiments.ground import Ground
from palate.experiments.over_optimisation import cases, concluded, shown, stopped, turning


def points(line: str, *means: tuple[list[float], float]) -> list[Mean]:
    return [
        Mean(
            line,
            line,
            place,
            {"step": [place] * 2, "kl": [place] * 2, "reward": rewards, "heldout": [loss] * 2}
            | {"alarm": [float(place == 3)] * 2, "note": [float(place == 2), float(place > 1)]},
            1.0,
        )
        for place, (rewards, loss) in enumerate(means)
    ]


FALLS = points("a", ([0.0, 0.0], 0.7), ([1.0, 1.2], 0.5), ([0.8, 0.9], 0.4), ([0.2, 0.5], 0.9))
STAYS = points("b", ([0.0, 0.0], 0.7), ([0.5, 0.6], 0.6))


def test_peak_end_and_early_stop_by_hand() -> None:
    """From 1.1 to .35: gaps .8 and .7, mean .75, standard error .05; both seeds peak alike."""
    peak, end, errors = turning(FALLS)
    assert (peak.place, end.place, errors) == (1, 3, pytest.approx(15))
    early = stopped(FALLS)
    assert early is not None
    assert early.place == 2
    assert turning(STAYS)[2] == 0
    found = concluded([*FALLS, *STAYS])
    assert found["a"]["falls"] is True
    assert found["a"]["stopped_early"] == 0.85
    assert (found["a"]["note_at_step"], found["a"]["alarm_at_step"]) == (2, 3)
    assert found["b"]["falls"] is False
    assert found["b"]["alarm_at_step"] is None
    assert [one.case for one in shown(STAYS)] == [
        "b: at its peak",
        "b: lowest held-out loss",
        "b: end",
    ]


def test_luck_is_no_peak() -> None:
    """Each seed is high once, and elsewhere than the other: by the other's choice, nothing falls.

    The mean is highest, 1.5, where seed 0 has 3; seed 1 chooses that place for it, and has 0 there.
    """
    lucky = points("a", ([3.0, 0.0], 0.7), ([0.0, 2.0], 0.5), ([0.5, 0.5], 0.4))
    peak, end, errors = turning(lucky)
    assert (peak.place, end.place) == (0, 2)
    # Seed 0 is looked at where seed 1 is highest (0 − .5), seed 1 where seed 0 is (0 − .5).
    assert errors == -math.inf
    assert turning([Mean("a", "a", 0, {"reward": [1.0]}, 1.0)])[2] == 0


@pytest.mark.slow
def test_a_weak_tie_on_few_pairs_falls_and_the_truth_does_not(ground: Ground) -> None:
    """The reward's peak is before the end; held-out loss rises; with the truth, reward rises."""
    small = replace(ground.scale, pairs=1000, online=replace(ground.scale.online, steps=20))
    on = replace(ground, scale=small)
    by_key = {case.key: case for case in cases(small)}
    weak = by_key["dpo, weak tie"].run(on, 0)
    assert [point["step"] for point in weak] == [12 * n for n in range(21)]
    rewards = [point["reward"] for point in weak]
    assert rewards[-1] < max(rewards) - 0.1
    assert weak[-1]["heldout"] > 1.1 * min(point["heldout"] for point in weak)
    assert weak[-1]["alarm"] == 1
    truth = by_key["grpo, true reward"].run(on, 0)
    assert truth[-1]["reward"] > truth[0]["reward"] + 0.5
    assert "heldout" not in truth[-1]
