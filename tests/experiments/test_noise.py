"""Labels that are turned over cost; what two judgements show of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from palate.experiments.ground import Ground
from palate.experiments.noise import cases, doubt


def test_what_two_judgements_show_by_hand(ground: Ground) -> None:
    """Sure annotators and 10 % turned over: d = .18, and η is 10 %; without, none."""
    pairs = ground.pairs(0, 200)
    sure = replace(
        ground, words=type(ground.words)(replace(ground.world, rewards=1e6 * ground.world.rewards))
    )
    assert doubt(sure, pairs, 0.0) == pytest.approx(0, abs=1e-12)
    assert doubt(sure, pairs, 0.1) == pytest.approx((1 - math.sqrt(1 - 2 * 0.18)) / 2)
    assert doubt(sure, pairs, 0.1) == pytest.approx(0.1)
    assert doubt(ground, pairs, 0.0) > 0.1, "unsure annotators look like wrong labels"
    assert not torch.equal(sure.world.rewards, ground.world.rewards)


@pytest.mark.slow
def test_wrong_labels_cost_and_the_robust_loss_goes_as_far_as_before(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    keys = ("dpo, 0% wrong", "dpo, 30% wrong", "robust-dpo, 30% wrong")
    clean, noisy, robust = (by_key[key].run(ground, 0)[-1] for key in keys)
    assert noisy["reward"] < clean["reward"] - 0.2
    assert noisy["kl"] < 0.6 * clean["kl"]
    assert robust["kl"] > 1.5 * noisy["kl"]
    assert robust["reward"] > noisy["reward"] + 0.1
