"""The chain rule of form and words, the pairs' forms, and what lint says of them."""

from __future__ import annotations

import re

import pytest
import torch

from palate.experiments.format import _stands, as_text, cases, mixed
from palate.experiments.ground import Ground


def test_a_share_of_the_pairs_differs_in_form_only(ground: Ground) -> None:
    pairs = mixed(ground, 0.25, 3)
    assert len(pairs) == 1000
    form = pairs.chosen // 9 != pairs.rejected // 9
    assert int(form.sum()) == 250
    assert torch.equal(pairs.chosen[form] % 9, pairs.rejected[form] % 9)
    better = (pairs.chosen[form] // 9) < (pairs.rejected[form] // 9)
    assert bool(better.all()), "forms are ranked by their number, without doubt"
    assert not bool((pairs.chosen == pairs.rejected).any())


def test_the_reference_has_moved_nowhere(ground: Ground) -> None:
    found = _stands(ground, ground.start)
    assert found["form"] == pytest.approx(0, abs=1e-9)
    assert found["said"] == pytest.approx(0, abs=1e-9)
    assert found["said reward"] == pytest.approx(found["reward"])


def test_the_pairs_as_text(ground: Ground) -> None:
    (example,) = as_text(ground.world, mixed(ground, 1.0, 3).of(slice(1)), 0)
    assert example.chosen.messages[0].content.startswith("- ")
    best, other = example.chosen.messages[0].content, example.rejected.messages[0].content
    assert not other.startswith("- ")
    assert other.startswith("**") or ", " in other, other
    assert re.findall("[a-z]+", other) == re.findall("[a-z]+", best)
    assert len(str(example.prompt[0].content).split()) == 10


@pytest.mark.slow
def test_form_is_what_is_learned_and_lint_says_so(ground: Ground) -> None:
    by_key = {case.key: case for case in cases(ground.scale)}
    words, form = (by_key[f"dpo, {share} form only"].run(ground, 0)[-1] for share in ("0%", "100%"))
    start = ground.stands(ground.start)["reward"]
    assert 1 > form["two best"] > form["best form"] > 0.95
    assert words["said reward"] > start + 0.5
    assert form["said reward"] < start + 0.5 * (words["said reward"] - start)
    assert form["said"] < words["said"]
    assert (words["form warned"], form["form warned"]) == (0, 1)
    assert form["alike noted"] == 1
