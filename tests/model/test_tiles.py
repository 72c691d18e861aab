from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from palate.model.tiles import TILE, Scores, Tile, plan_tiles, tiled_attention
from palate.tokens.tree import Branch, Forest, build_forest


def branch(*ids: int) -> Branch:
    return Branch(ids, [False] + [True] * (len(ids) - 1))


def small_forest() -> Forest:
    """A root of 3, below it a leaf of 2 and a middle of 2 with leaves of 2 and 1."""
    trunk = (1, 2, 3)
    return build_forest(
        [
            branch(*trunk, 4, 5),
            branch(*trunk, 6, 7, 8, 9),
            branch(*trunk, 6, 7, 10),
        ],
        min_shared=1,
    )


def random_parts(forest: Forest, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    size = forest.unique_tokens
    return [
        torch.randn(heads, size, 8, generator=draw, dtype=torch.float64).to(dtype)
        for heads in (4, 2, 2)
    ]


def written_out(
    parts: list[Tensor], forest: Forest, scores: Scores, sinks: Tensor | None
) -> Tensor:
    """One dense mask over the packed row, in plain differentiable torch."""
    query, key, value = parts
    size = forest.unique_tokens
    seen = torch.zeros(size, size, dtype=torch.bool)
    for segment in forest.segments:
        path = [r for a, b in (*segment.context, (segment.start, segment.end)) for r in range(a, b)]
        for position in range(segment.position, len(path)):
            first = 0 if scores.window is None else max(0, position - scores.window + 1)
            seen[path[position], path[first : position + 1]] = True
    group = len(query) // len(key)
    key, value = (t.repeat_interleave(group, 0) for t in (key, value))
    found = query @ key.transpose(1, 2) * scores.scale
    if scores.softcap is not None:
        found = scores.softcap * torch.tanh(found / scores.softcap)
    found = found.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        column = sinks.view(-1, 1, 1).expand(-1, size, 1)
        return (torch.cat([found, column], -1).softmax(-1)[..., :-1] @ value).transpose(0, 1)
    return (found.softmax(-1) @ value).transpose(0, 1)


def test_a_tile_looks_at_its_path_and_ends_with_its_own_rows() -> None:
    # rows: 0-2 root, then in packed order the leaf (3, 4), the middle (5, 6), its leaves
    tiles = {(t.start, t.end): t for t in plan_tiles(small_forest(), None)}
    assert tiles[0, 3].keys == ((0, 3),)
    assert tiles[3, 5].keys == ((0, 3), (3, 5))
    assert tiles[7, 9].keys == ((0, 3), (5, 7), (7, 9))
    assert tiles[9, 10].keys == ((0, 3), (5, 7), (9, 10))
    assert [t.length for t in tiles.values()] == [3, 5, 5, 7, 6]


def test_a_window_cuts_keys_that_no_query_of_the_tile_sees() -> None:
    # the leaf's first query stands at position 5 and sees positions 3, 4, 5
    tiles = {(t.start, t.end): t for t in plan_tiles(small_forest(), 3)}
    assert tiles[7, 9].keys == ((5, 7), (7, 9))
    assert tiles[3, 5].keys == ((1, 3), (3, 5))


def test_a_long_segment_is_cut_and_every_row_is_in_one_tile() -> None:
    forest = build_forest([branch(*range(2 * TILE + 7))])
    tiles = plan_tiles(forest, None)
    assert [(t.start, t.end, t.length) for t in tiles] == [
        (0, TILE, TILE),
        (TILE, 2 * TILE, 2 * TILE),
        (2 * TILE, 2 * TILE + 7, 2 * TILE + 7),
    ]


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_results_and_gradients_equal_one_dense_mask(
    window: int | None, softcap: float | None, with_sinks: bool
) -> None:
    forest, scores = small_forest(), Scores(0.3, window, softcap)
    parts = [t.requires_grad_() for t in random_parts(forest)]
    sinks = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_() if with_sinks else None
    leaves: list[Any] = [*parts, *([sinks] if sinks is not None else [])]
    mine = tiled_attention(*parts, sinks, plan_tiles(forest, window), scores)
    theirs = written_out(parts, forest, scores, sinks)
    weight = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(mine, theirs, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(mine, leaves, weight),
        torch.autograd.grad(theirs, leaves, weight),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_root_of_many_tiles_equals_one_dense_mask() -> None:
    forest = build_forest([branch(*range(TILE + 40))])
    parts = random_parts(forest)
    scores = Scores(0.3)
    mine = tiled_attention(*parts, None, plan_tiles(forest, None), scores)
    assert torch.allclose(mine, written_out(parts, forest, scores, None), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_branch_has_the_same_bits_whatever_is_packed_beside_it(dtype: torch.dtype) -> None:
    alone = build_forest([branch(1, 2, 3, 6, 7, 8, 9)])
    forest = small_forest()
    rows = [0, 1, 2, 5, 6, 7, 8]  # of the same tokens in the forest
    parts = random_parts(forest, dtype)
    scores = Scores(0.3)
    packed = tiled_attention(*parts, None, plan_tiles(forest, None), scores)
    # cut as in the forest: a segment is what is computed together
    pieces = [(0, 3), (3, 5), (5, 7)]
    tiles = tuple(Tile(a, b, ((0, b),), b) for a, b in pieces)
    single = tiled_attention(*(t[:, rows] for t in parts), None, tiles, scores)
    assert alone.unique_tokens == len(rows)
    assert torch.equal(packed[rows], single)


def test_gradients_of_a_shared_trunk_are_summed_in_fp32() -> None:
    """64 leaves pull a trunk's value by 1 + 2^-7 each: a bf16 sum would lose the fraction."""
    trunk = list(range(8))
    forest = build_forest([branch(*trunk, 100 + k) for k in range(64)])
    size = forest.unique_tokens
    query = torch.zeros(1, size, 8, dtype=torch.bfloat16)
    key = torch.zeros(1, size, 8, dtype=torch.bfloat16)
    value = torch.zeros(1, size, 8, dtype=torch.bfloat16, requires_grad=True)
    out = tiled_attention(query, key, value, None, plan_tiles(forest, None), Scores(1.0))
    grad = torch.zeros_like(out)
    grad[8:] = 1.0078125
    out.backward(grad)
    assert value.grad is not None
    # every leaf sees nine keys with weight 1/9; bf16 holds that, and the sum, to 0.4 %
    assert abs(float(value.grad[0, 0, 0]) / (64 / 9 * 1.0078125) - 1) < 0.006
