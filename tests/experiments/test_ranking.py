"""Judges of pairs: the truth and its opposite by hand, and that learning ranks."""

from __future__ import annotations

import pytest
import torch

from palate.experiments.ground import Ground
from palate.experiments.ranking import cases, implicit, judged


def test_judges_by_hand(ground: Ground) -> None:
    """Nobody's opinion ranks a half right; the truth and its opposite are all pairs together."""
    truth = ground.world.rewards
    right, wrong = (judged(ground, sign * truth, 0) for sign in (1, -1))
    nobody = judged(ground, torch.zeros_like(truth), 0)
    assert nobody["ranked"] == 0.5
    assert nobody["reward"] == pytest.approx(ground.stands(ground.reference)["reward"])
    assert right["ranked"] + wrong["ranked"] == pytest.approx(1)
    assert right["ranked"] > 0.6
    assert right["reward"] > nobody["reward"] > wrong["reward"]


def test_the_reference_has_no_opinion(ground: Ground) -> None:
    """DPO's reward is of the log-ratio: the policy that it begins with ranks nothing."""
    scores_PA = implicit(ground.start, ground)
    assert torch.allclose(scores_PA, torch.zeros_like(scores_PA), atol=1e-5)
    assert scores_PA.shape == ground.world.rewards.shape


@pytest.mark.slow
def test_both_learn_to_rank(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    truth = by_key["the truth"].run(ground, 0)[-1]
    for line in ("reward model", "dpo"):
        found = by_key[f"{line}, 1 times the steps"].run(ground, 0)[-1]
        assert found["steps"] == 120
        assert 0.6 < found["ranked"] < truth["ranked"] + 0.02
        assert found["share"] > 0.5
