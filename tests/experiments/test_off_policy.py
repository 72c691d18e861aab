"""Writers between the reference and another; whose answers are the model's own, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from palate.experiments.data import Pairs
from palate.experiments.ground import Ground
from palate.experiments.off_policy import cases, other, owned


def test_the_writer_goes_from_the_reference_to_another(ground: Ground) -> None:
    near, half, far = (other(ground, mixed) for mixed in (0.0, 0.5, 1.0))
    assert torch.allclose(near, ground.reference)
    away = [
        float((one.exp() * (one - ground.reference)).sum(1).mean()) for one in (near, half, far)
    ]
    assert away == sorted(away)
    assert away[2] > 1


def test_the_models_own_answers_by_hand(ground: Ground) -> None:
    """Of (.02, .02, .03, .93), the lowest 5 % end in the third answer: two are not its own."""
    logps = torch.tensor([[0.02, 0.02, 0.03, 0.93]], dtype=torch.float64).log()
    on = replace(ground, reference=logps)
    both = torch.tensor([0, 0]), torch.tensor([0, 2]), torch.tensor([3, 1])
    assert owned(on, Pairs(*both)) == 0.5


@pytest.mark.slow
def test_strange_pairs_are_seen(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    near, far = (by_key[f"dpo, {share} of another"].run(ground, 0)[-1] for share in ("0%", "100%"))
    assert near["own"] > 0.9
    assert far["own"] < 0.6
    assert near["away"] == pytest.approx(0, abs=1e-9)
    own = by_key["online-dpo"].run(ground, 0)[-1]
    assert own["reward"] > 1
    assert own["share"] > 0.5
    assert math.isnan(own["alarm"]), "nobody could have looked at its pairs before"
