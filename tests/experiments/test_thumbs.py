"""Thumbs that nearly all point one way cost."""

from __future__ import annotations

import pytest

from palate.experiments import thumbs
from palate.experiments.ground import Ground


@pytest.mark.slow
def test_nearly_all_up_costs_reward(ground: Ground) -> None:
    by_key = {case.key: case for case in thumbs.cases(ground.scale)}
    even, up = (by_key[f"kto, {share} up"].run(ground, 0)[-1] for share in ("50%", "98%"))
    bare = by_key["kto without weights, 98% up"].run(ground, 0)[-1]
    assert bare["reward"] < up["reward"] < even["reward"]
    assert (even["alarm"], up["alarm"]) == (0, 1)
