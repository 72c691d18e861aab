from __future__ import annotations

import itertools
import random

import pytest
import torch
from tests.model.native.needs import needs_native
from torch import Tensor

from palate.model.native.attention import layout_of, native_attention, serves
from palate.model.tiles import Scores, plan_tiles, tiled_attention
from palate.tokens.tree import Branch, Forest, build_forest

pytestmark = needs_native


def random_forest(seed: int) -> Forest:
    """Up to seven branches that leave each other anywhere, of up to 400 tokens."""
    draw = random.Random(seed)
    paths = [[draw.randrange(50) for _ in range(draw.randrange(1, 300))]]
    for _ in range(draw.randrange(1, 7)):
        trunk = draw.choice(paths)
        rest = [draw.randrange(50) for _ in range(draw.randrange(1, 120))]
        paths.append(trunk[: draw.randrange(len(trunk) + 1)] + rest)
    return build_forest([Branch(ids, [False] + [True] * (len(ids) - 1)) for ids in paths])


def random_parts(forest: Forest, heads: int, kv_heads: int, width: int) -> list[Tensor]:
    """Queries and values contiguous, keys as a transposed view, as models hand them over."""
    draw = torch.Generator().manual_seed(0)
    size = forest.unique_tokens
    query = torch.randn(heads, size, width, generator=draw).bfloat16()
    key = torch.randn(size, kv_heads, width, generator=draw).bfloat16().transpose(0, 1)
    value = torch.randn(kv_heads, size, width, generator=draw).bfloat16()
    return [query, key, value]


def with_gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(out.shape, generator=draw).bfloat16().to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight)]


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact.detach()).norm() / exact.detach().norm())


SHAPES = [(9, 3, 64), (4, 4, 32), (8, 2, 128), (5, 1, 96)]


@pytest.mark.parametrize(("shape", "window"), list(itertools.product(SHAPES, [None, 7, 100])))
def test_it_is_as_close_to_float64_as_the_tiles_in_torch(
    shape: tuple[int, int, int], window: int | None
) -> None:
    for seed in range(3):
        forest, scores = random_forest(seed), Scores(shape[2] ** -0.5, window)
        parts = random_parts(forest, *shape)
        tiles = plan_tiles(forest, window)
        leaves = [t.detach().requires_grad_() for t in parts]
        mine = with_gradients(native_attention(*leaves, layout_of(forest, window), scores), leaves)
        torchs = with_gradients(tiled_attention(*leaves, None, tiles, scores), leaves)
        wide = [t.detach().double().requires_grad_() for t in parts]
        exact = with_gradients(tiled_attention(*wide, None, tiles, scores), wide)
        for found, usual, right in zip(mine, torchs, exact, strict=True):
            # scores' gradients are rounded to bf16 on the way, as in every flash kernel
            assert error(found, right) <= 1.3 * error(usual, right)


def test_the_number_of_threads_changes_no_bit() -> None:
    forest, scores = random_forest(3), Scores(0.125)
    parts = random_parts(forest, 9, 3, 64)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [t.detach().requires_grad_() for t in parts]
            out = native_attention(*leaves, layout_of(forest, None), scores)
            results.append(with_gradients(out, leaves))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_segment_has_the_same_bits_whatever_is_packed_beside_it() -> None:
    trunk = list(range(70))
    here, there = [*trunk, *[100] * 40], [*trunk, *[101] * 90]
    mask = [False] + [True] * 200
    pair = build_forest([Branch(ids, mask[: len(ids)]) for ids in (here, there)])
    with_third = build_forest(
        [Branch(ids, mask[: len(ids)]) for ids in (here, there, [*[200] * 33, *trunk])]
    )
    rows = {}
    for name, forest in (("pair", pair), ("third", with_third)):
        parts = random_parts(forest, 4, 2, 32)
        for part in parts:  # what a token is decides its row, not where it stands
            for row, token in enumerate(forest.ids_T.tolist()):
                at = int(forest.positions_T[row])
                draw = torch.Generator().manual_seed(1000 * token + at)
                part[:, row] = torch.randn(part.shape[0], 32, generator=draw).bfloat16()
        out = native_attention(*parts, layout_of(forest, None), Scores(0.2))
        rows[name] = {
            (int(t), int(p)): out[row]
            for row, (t, p) in enumerate(zip(forest.ids_T, forest.positions_T, strict=True))
        }
    for key, value in rows["pair"].items():
        assert torch.equal(value, rows["third"][key]), key


def test_it_serves_plain_bf16_only() -> None:
    query = torch.zeros(1, 4, 3, 64, dtype=torch.bfloat16)
    assert serves(query, query, Scores(1.0), None)
    assert not serves(query.float(), query.float(), Scores(1.0), None)
    assert not serves(query, query, Scores(1.0, softcap=30.0), None)
    assert not serves(query, query, Scores(1.0), torch.zeros(4))
    assert not serves(query[..., :40], query[..., :40], Scores(1.0), None)
