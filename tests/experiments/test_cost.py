"""What is counted of a step, by hand; a step is measured, and grows as it is said to."""

from __future__ import annotations

import sys

import pytest

from palate.experiments.cost import (
    FULL,
    REDUCED,
    SHAPES,
    Batch,
    Case,
    branches,
    cases,
)
from palate.experiments.runs import Point
from palate.tokens.tree import build_forest


def test_the_tokens_of_a_batch_by_hand() -> None:
    """8 pairs on 2 prompts of 128: 2 · 128 + 16 · 32 in a tree, 16 · 160 in rows."""
    rows = branches(SHAPES[0], Batch(), 0)
    assert len(rows) == 16
    assert build_forest(rows).unique_tokens == 768
    assert build_forest(rows, share=False).unique_tokens == 2560
    assert all(sum(row.mask) == 32 for row in rows)
    alone = branches(SHAPES[0], Batch(sharing=1), 0)
    assert build_forest(alone).unique_tokens == 8 * (128 + 64)
    assert [row.ids for row in branches(SHAPES[0], Batch(), 1)] != [row.ids for row in rows]


def test_each_size_is_run_in_both_layouts() -> None:
    found = [case.key for case in cases(FULL)]
    assert len(found) == 2 * (5 + 4 + 4 + 4)
    assert "prompts of 512, tree" in found
    assert "a smollm2-135m model, plain" in found


@pytest.mark.slow
def test_a_longer_prompt_costs_rows_more_than_a_tree() -> None:
    by_key = {case.key: case for case in cases(REDUCED)}

    def run(key: str) -> Point:
        case: Case = by_key[key]
        (point,) = case.run(REDUCED, 0)
        return point

    tree, rows = (run(f"prompts of 256, {layout}") for layout in ("tree", "plain"))
    assert (tree["tokens"], rows["tokens"]) == (2 * 256 + 16 * 32, 16 * 288)
    assert rows["gflops"] > 3 * tree["gflops"]
    assert tree["time"] == pytest.approx(tree["seconds"] / tree["seconds by the model"])
    assert tree["seconds"] > 0
    if sys.platform == "linux":
        assert rows["mib"] > 2 * tree["mib"]
        assert 0.3 < rows["memory"] < 3
