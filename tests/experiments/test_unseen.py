"""Where the mass goes: the three parts are all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.experiments.ground import Ground
from palate.experiments.unseen import cases


@pytest.mark.slow
def test_mass_leaves_the_rejected_answers(ground: Ground) -> None:
    small = replace(ground, scale=replace(ground.scale, pairs=2000))
    by_key = {case.key: case for case in cases(small.scale)}
    for line in ("dpo, weak tie", "sft"):
        found = by_key[line].run(small, 0)
        assert [point["step"] for point in found] == [12 * n for n in range(11)]
        for point in found:  # each from a mask of its own
            assert point["unseen"] + point["chosen"] + point["rejected"] == pytest.approx(1)
        assert found[0]["unseen"] > 0.1
        assert found[-1]["rejected"] < 0.5 * found[0]["rejected"]
    assert found[-1]["unseen"] < 0.5 * found[0]["unseen"], "what is imitated is in the pairs"
