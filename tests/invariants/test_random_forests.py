"""Random trees, random masks, random models of each supported family: as the plain computation.

200 cases in fp32. Every case is a fixed seed, so a failure can be looked at again.
"""

from __future__ import annotations

import pytest
import torch
from tests.families import FAMILIES, random_model
from tests.forests import branch_weights, plain_logps, random_branches, take_gradients

from palate.model.policy import Policy
from palate.tokens.tree import build_forest

SEEDS = 200 // len(FAMILIES)
CASES = [(family, 1000 * k + seed) for k, family in enumerate(FAMILIES) for seed in range(SEEDS)]

# One unit in the last place of a log-prob between 8 and 16 nats is 9.5e-7 in fp32, and the logits
# and the log-sum-exp that it is the difference of are of that size: ten units. 84 units of fp32's
# relative 1.2e-7 for a gradient, a sum over a few dozen tokens and three layers. The largest that
# were measured are 1.4e-6 and 3.0e-6; masks and positions off by one gave 4e-2 to 3e-1 nats.
NATS = 1e-5
GRADIENT = 1e-5


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_a_random_tree_equals_the_plain_computation(family: str, seed: int) -> None:
    branches = random_branches(seed)
    model = random_model(family, seed)
    weights_N = branch_weights(branches)
    plain_N = plain_logps(model, branches)
    (plain_N * weights_N).sum().backward()
    wanted = take_gradients(model)

    forest = build_forest(branches, min_shared=(1, 8)[seed % 2])
    tree_N = Policy(model)(forest).token_logps_N
    (tree_N * weights_N).sum().backward()
    found = take_gradients(model)

    assert float((tree_N - plain_N).detach().abs().max()) <= NATS
    assert found.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for g in wanted.values())
    for name, grad in wanted.items():
        # what is 0 but for rounding (a key's bias) is measured by the model's largest gradient
        scale = max(float(grad.abs().max()), 0.01 * largest)
        assert float((found[name] - grad).abs().max()) <= GRADIENT * scale, name


def test_the_random_forests_are_worth_testing() -> None:
    """Most share; grandchildren, branches that end inside others, masks of every kind occur."""
    deep = shared = ends_inside = silent = 0
    for _, seed in CASES:
        branches = random_branches(seed)
        forest = build_forest(branches, min_shared=(1, 8)[seed % 2])
        shared += forest.shared
        deep += any(len(s.context) >= 2 for s in forest.segments)
        paths = [tuple(b.ids) for b in branches]
        ends_inside += any(p != q and q[: len(p)] == p for p in paths for q in paths)
        silent += any(not any(b.mask) for b in branches)
    assert shared >= 100
    assert min(deep, ends_inside, silent) >= 30
    assert len(CASES) == 200
    assert torch.get_default_dtype() == torch.float32
