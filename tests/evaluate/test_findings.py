"""Each explanation and alarm at both sides of its threshold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from palate.evaluate import findings as f


def comparison(**change: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "before": {"distinct_2": 0.6, "finished": 0.95, "tokens": 30.0},
        "after": {"distinct_2": 0.6, "finished": 0.95, "tokens": 30.0},
        "tokens_change": 0.0,
        "difference": 0.5,
        "difference_interval": [0.3, 0.7],
    }
    for key, value in change.items():
        stage, _, name = key.partition("__")
        if name:
            base[stage][name] = value
        else:
            base[key] = value
    return base


def train(chosen: float, margin: float) -> list[dict[str, float]]:
    """Eight steps along straight lines from 0 to `chosen` and `margin`."""
    return [
        {"step": i, "chosen_reward": chosen * i / 8, "margin": margin * i / 8, "loss": 0.5}
        for i in range(1, 9)
    ]


@pytest.mark.parametrize(("after", "level"), [(0.46, "good"), (0.44, "alarm")])
def test_variety_alarms_at_a_fall_by_a_quarter(after: float, level: str) -> None:
    found = f.variety(comparison(after__distinct_2=after))  # 0.45 is 75 % of 0.6
    assert found is not None
    assert found.level == level
    assert f"from 0.60 to {after:.2f}" in found.text


def test_a_distance_is_said_above_ten_nats() -> None:
    """The best of 1,000: ln 1000 - 999/1000 = 6.9078 - 0.999 = 5.9088 nats."""
    assert f.distance(comparison(kl=10.0)) is None
    far = f.distance(comparison(kl=12.76))
    assert far is not None
    assert far.level == "note"
    assert "12.8 nats an answer" in far.text
    assert f"{math.log(1000) - 0.999:.1f} nats away" in far.text


@pytest.mark.parametrize(("after", "level"), [(0.91, "good"), (0.89, "alarm")])
def test_endings_alarm_at_a_fall_by_five_points(after: float, level: str) -> None:
    found = f.endings(comparison(after__finished=after))
    assert found is not None
    assert found.level == level


@pytest.mark.parametrize(
    ("change", "level"), [(0.19, "good"), (0.21, "alarm"), (-0.19, "good"), (-0.21, "alarm")]
)
def test_length_alarms_at_a_fifth_either_way(change: float, level: str) -> None:
    found = f.length(comparison(tokens_change=change))
    assert found is not None
    assert found.level == level


@pytest.mark.parametrize(
    ("interval", "level"), [([0.1, 0.5], "good"), ([-0.1, 0.5], "note"), ([-0.5, -0.1], "alarm")]
)
def test_the_rule_is_judged_by_its_interval(interval: list[float], level: str) -> None:
    found = f.rule_result(comparison(difference_interval=interval))
    assert found is not None
    assert found.level == level


def test_a_falling_chosen_reward_is_common() -> None:
    # Quarters are two steps: chosen from the mean of -.125, -.25 to that of -.875, -1.
    found = f.rewards(train(-1.0, 4.0), worse=False)
    assert found is not None
    assert found.level == "note"
    assert "from −0.19 to −0.94, the margin from 0.75 to 3.75" in found.text


def test_a_falling_chosen_reward_with_worse_samples_is_an_alarm() -> None:
    found = f.rewards(train(-1.0, 4.0), worse=True)
    assert found is not None
    assert found.level == "alarm"


def test_rewards_otherwise() -> None:
    rising = f.rewards(train(1.0, 4.0), worse=True)
    flat = f.rewards(train(-1.0, 0.0), worse=None)
    assert rising is not None
    assert rising.level == "good"
    assert flat is not None
    assert flat.title == "The margin has not grown"
    assert f.rewards(train(-1.0, 4.0)[:3], worse=None) is None
    assert f.rewards([{"step": i, "loss": 1.0} for i in range(9)], worse=None) is None


def test_answers_with_a_thumb_up_are_looked_at_by_themselves() -> None:
    """Of two answers one has a thumb up; its reward goes from −.1 to −.8."""
    lines = [
        {"step": i, "margin": float(i), "up": 0.5, "up_reward": -0.05 * i, "reward": 1.0}
        for i in range(1, 9)
    ]
    found = f.rewards(lines, worse=False)
    assert found is not None
    assert found.title == "The reward of answers with a thumb up falls while the margin rises"
    assert "went from −0.15 to −0.75, the margin from 1.50 to 7.50" in found.text
    risen = f.rewards([line | {"up_reward": -line["up_reward"]} for line in lines], worse=None)
    assert risen is not None
    assert risen.title == "Answers with a thumb up became likelier"
    without = [{k: v for k, v in line.items() if k != "up"} for line in lines]
    assert f.rewards(without, worse=None) is None


@pytest.mark.parametrize("quarter", [slice(0, 2), slice(6, 8), slice(0, 8)])
def test_without_a_thumb_up_in_a_quarter_nothing_is_said_of_them(quarter: slice) -> None:
    lines = [
        {"step": i, "margin": float(i), "up": 0.5, "up_reward": -0.05 * i} for i in range(1, 9)
    ]
    lines[quarter] = [line | {"up": 0.0, "up_reward": 0.0} for line in lines[quarter]]
    assert f.rewards(lines, worse=None) is None


def test_what_counts_as_worse_samples() -> None:
    assert f.degenerate({}) is None
    assert f.degenerate(comparison()) is False
    assert f.degenerate(comparison(after__distinct_2=0.3)) is True
    assert f.degenerate(comparison(after__finished=0.5)) is True
    # Shorter answers that follow the rule more often are not damage; without a gain they are.
    assert f.degenerate(comparison(tokens_change=-0.5)) is False
    assert f.degenerate(comparison(tokens_change=-0.5, difference_interval=None)) is True


@pytest.mark.parametrize(
    ("off", "level"), [(0.0, "good"), (9e-6, "good"), (1e-3, "note"), (0.05, "alarm")]
)
def test_the_first_loss_is_held_against_its_known_value(off: float, level: str) -> None:
    expected = math.log(2)
    found = f.step_zero({"loss": expected + off, "expected": expected, "max_abs_h": 0.002})
    assert found is not None
    assert found.level == level
    assert "largest 0.002 nats" in found.text
    assert f.step_zero({"loss": 2.6, "expected": None}) is None


def test_held_out_loss() -> None:
    def found(*losses: float) -> tuple[str, str] | None:
        out = f.heldout_loss([{"step": 10 * i, "loss": x} for i, x in enumerate(losses)])
        return out and (out.level, out.title)

    assert found(0.69, 0.5, 0.4) == ("good", "Held-out loss fell")
    assert found(0.69, 0.40, 0.41) == ("good", "Held-out loss fell")  # 2.5 % above its lowest
    assert found(0.69, 0.40, 0.43) == ("note", "Held-out loss rose again")  # 7.5 % above
    assert found(0.69, 0.69) == ("note", "Held-out loss has not fallen")
    assert found(0.69) is None


def test_held_out_accuracy_against_a_coin() -> None:
    sure = f.heldout_accuracy({"n": 40, "accuracy": 0.8, "accuracy_interval": [0.65, 0.9]})
    thumbs = {"n": 40, "accuracy": 0.8, "accuracy_interval": [0.65, 0.9]}
    single = f.heldout_accuracy(thumbs, "answer")
    assert single is not None
    assert single.title == "It tells good answers from bad ones that it never saw"
    assert "40 held-out answers" in single.text
    unsure = f.heldout_accuracy({"n": 10, "accuracy": 0.6, "accuracy_interval": [0.3, 0.85]})
    assert sure is not None
    assert sure.level == "good"
    assert unsure is not None
    assert unsure.level == "note"


def test_divergence() -> None:
    found = f.diverged([{"step": 3, "loss": 0.5}, {"step": 4, "loss": math.nan}])
    assert found is not None
    assert found.level == "alarm"
    assert "loss was nan at step 4" in found.text
    assert f.diverged(train(0, 0)) is None


@pytest.mark.parametrize(
    "check",
    [f.variety, f.endings, f.length, f.distance, f.rule_result, f.step_zero, f.heldout_accuracy],
)
def test_what_was_not_measured_is_not_judged(check: Any) -> None:
    assert check({}) is None
