"""The frontier experiment in a small world: its shape."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from palate.experiments.figures import Mean
from palate.experiments.frontier import Setting, concluded, curve, nearest, settings, stands
from palate.experiments.ground import Ground
from palate.experiments.runs import Point
from palate.experiments.world import Frontier

CHOSEN = [
    *(Setting("dpo", {"beta": beta}) for beta in (2, 0.5, 0.1)),
    *(Setting("best-of-n", {"n": n}, "true") for n in (2, 16)),
    Setting("best-of-n", {"n": 16}, "learned"),
    Setting("rloo", {"beta": 0.5}, "true"),
]


@pytest.fixture(scope="module")
def found(ground: Ground) -> dict[str, Point]:
    return {setting.key: stands(ground, setting, 0) for setting in CHOSEN}


def test_nothing_is_above_the_frontier(found: dict[str, Point]) -> None:
    assert len(found) == len(CHOSEN)
    assert all(point["above"] <= 1e-9 for point in found.values())
    assert all(0.5 < point["share"] <= 1 for point in found.values()), found


def test_a_weaker_pull_goes_farther(found: dict[str, Point]) -> None:
    """KL grows in 1/β and in n."""
    far = [found[f"dpo beta={beta:g}"]["kl"] for beta in (2, 0.5, 0.1)]
    assert far == sorted(far)
    assert far[0] < 0.5 * far[2]
    assert found["best-of-n n=2 true reward"]["kl"] < found["best-of-n n=16 true reward"]["kl"]


def test_the_best_of_many_by_the_truth_is_next_to_the_frontier(found: dict[str, Point]) -> None:
    """KL of best-of-n is at most log n − (n − 1)/n (Beirami et al. 2024)."""
    by_truth, learned = (found[f"best-of-n n=16 {who} reward"] for who in ("true", "learned"))
    assert by_truth["share"] > 0.95
    assert by_truth["kl"] <= 1.835088  # log 16 − 15/16
    assert learned["reward"] < by_truth["reward"]


def test_dpo_makes_nine_tenths_of_the_oracles_gain(found: dict[str, Point]) -> None:
    assert max(found[f"dpo beta={beta:g}"]["share"] for beta in (2, 0.5, 0.1)) >= 0.9


def test_self_play_has_a_strength(ground: Ground) -> None:
    """With a new reference at every step, β would not matter: four rounds have one each."""
    weak, strong = (stands(ground, Setting("spin", {"beta": b}), 0)["kl"] for b in (0.1, 10.0))
    assert weak > 2 * strong > 0


def test_what_was_sampled_is_counted(found: dict[str, Point]) -> None:
    assert found["rloo beta=0.5 true reward"]["samples"] == 40 * 64
    assert found["dpo beta=2"]["samples"] == 0


def test_the_reward_model_is_trained_once_a_seed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def made(self: Ground, pairs: object, seed: int, effort: object) -> torch.Tensor:
        asked.append(seed)
        return torch.zeros(1)

    monkeypatch.setattr(Ground, "reward_model", made)
    for seed in (71, 71, 72, 72):
        ground.learned(seed)
    ground._learned.clear()
    assert asked == [71, 72]


def test_every_setting_has_a_name_of_its_own() -> None:
    every = settings()
    assert len({one.key for one in every}) == len(every)
    assert {"sft", "dpo", "ipo", "kto", "orpo", "simpo", "robust-dpo", "spin", "sppo"} <= {
        one.method for one in every
    }


def mean(case: str, share: float, above: float) -> Mean:
    line = case.split(" ", maxsplit=1)[0]
    return Mean(case, line, 0, {"share": [share], "above": [-1.0, above], "kl": [1.0]}, 1.0)


def test_each_method_where_it_comes_nearest() -> None:
    some = [mean("dpo beta=1", 0.9, -0.2), mean("dpo beta=2", 0.8, 0.1), mean("ppo", 0.95, -0.3)]
    assert [one.case for one in nearest(some)] == ["ppo", "dpo beta=1"]
    assert concluded(some) == {
        "most_above": 0.1,
        "nearest": {"ppo": "ppo", "dpo": "dpo beta=1"},
    }


def test_the_curve_begins_at_the_reference_and_rises_ever_less() -> None:
    reference = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], dtype=torch.float64).log()
    rewards = torch.tensor([[1.0, 0.5, 0.0, -0.5, -1.0]], dtype=torch.float64)
    points = list(curve(Frontier(reference, rewards), 0.514619))
    assert points[0] == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert points[-1] == (pytest.approx(0.514619, abs=1e-6), pytest.approx(0.542707, abs=1e-6))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points[1:])]
    assert slopes == sorted(slopes, reverse=True)
