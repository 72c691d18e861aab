from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.model.kernel_doubles import random_forest, use_doubles
from tests.model.test_attention import by_hand
from tests.model.test_varlen import gradients, tensors

from palate.model.attention import tree_attention
from palate.model.flex import BLOCK, flex_tree_attention, plan_flex, visible_by_block
from palate.tokens.tree import Branch, Forest, build_forest


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_doubles(monkeypatch)


def dense(forest: Forest, window: int | None) -> torch.Tensor:
    size = forest.unique_tokens
    mask = torch.zeros(size, size, dtype=torch.bool)
    for s in forest.segments:
        rows = [r for a, b in (*s.context, (s.start, s.end)) for r in range(a, b)]
        for position in range(s.position, len(rows)):
            first = 0 if window is None else max(0, position - window + 1)
            mask[rows[position], rows[first : position + 1]] = True
    return mask


@pytest.mark.parametrize("window", [None, 1, 40, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_the_block_mask_is_the_tree(seed: int, window: int | None) -> None:
    """Entry by entry, and block by block: several blocks, whole ones among them."""
    forest = random_forest(seed, longest=400)
    expected = dense(forest, window)
    size = forest.unique_tokens
    assert size > 2 * BLOCK
    mask = plan_flex(forest, window)
    index = torch.arange(size)
    zero = torch.tensor(0)
    found = mask.mask_mod(zero, zero, index[:, None], index[None, :])
    assert torch.equal(found, expected)
    blocks = -(-size // BLOCK)
    padded = torch.zeros(blocks * BLOCK, blocks * BLOCK, dtype=torch.bool)
    padded[:size, :size] = expected
    counts = padded.view(blocks, BLOCK, blocks, BLOCK).sum(dim=(1, 3))
    assert np.array_equal(visible_by_block(forest, window, BLOCK), counts.numpy())
    partial = torch.zeros(blocks, blocks, dtype=torch.bool)
    full = partial.clone()
    for table, number, into in (
        (mask.kv_indices, mask.kv_num_blocks, partial),
        (mask.full_kv_indices, mask.full_kv_num_blocks, full),
    ):
        assert table is not None
        assert number is not None
        for row in range(blocks):
            into[row, table[0, 0, row, : int(number[0, 0, row])].long()] = True
    assert torch.equal(full, counts == BLOCK**2)
    assert torch.equal(partial | full, counts > 0)


def test_blocks_that_are_seen_as_a_whole_need_no_mask() -> None:
    forest = build_forest([Branch(list(range(3 * BLOCK)), [False] + [True] * (3 * BLOCK - 1))])
    mask = plan_flex(forest, None)
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("window", [None, 5, 100])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_one_dense_mask_with_its_gradients(seed: int, window: int | None) -> None:
    forest = random_forest(seed, longest=40)
    q, k, v = tensors(forest, seed)
    out = flex_tree_attention(q, k, v, forest, 8**-0.5, window)
    expected = by_hand(q, k, v, forest, window)
    assert torch.allclose(out, expected, atol=1e-6)
    for mine, theirs in zip(gradients(out, [q, k, v]), gradients(expected, [q, k, v]), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_caps_and_sinks_with_their_gradients() -> None:
    """Against the tiled form, whose own caps and sinks are tested by hand."""
    forest = random_forest(1, longest=20)
    inputs = tensors(forest, 1)
    sinks = torch.tensor([-1.0, 0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    mine = flex_tree_attention(*inputs, forest, 0.3, 7, 0.7, sinks)
    theirs, _ = tree_attention(
        torch.nn.Module(),
        *inputs,
        None,
        scaling=0.3,
        forest=forest,
        sliding_window=7,
        softcap=0.7,
        s_aux=sinks,
    )
    assert torch.allclose(mine, theirs, atol=1e-5)
    leaves = [*inputs, sinks]
    for a, b in zip(gradients(mine, leaves), gradients(theirs, leaves), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
