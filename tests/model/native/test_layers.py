from __future__ import annotations

import pytest
import torch
from tests.model.native.needs import needs_native
from tests.model.native.test_attention import error, random_forest
from torch import Tensor
from torch.nn import functional

from palate.model.native.attention import layout_of
from palate.model.native.layers import gate, norm, rotary_attention
from palate.model.tiles import Scores, plan_tiles, tiled_attention

pytestmark = needs_native
EPSILON = 1e-5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("rows", [1, 64, 131])
def test_the_norm_and_its_gradients_equal_float64(rows: int, added: bool) -> None:
    x, weight = normal(rows, 48), normal(48, seed=1)
    more = normal(rows, 48, seed=2).bfloat16() if added else None
    leaves = [t.requires_grad_() for t in (x, weight, *([more] if more is not None else []))]
    total, y = norm(x, more, weight, EPSILON)
    pulls = normal(rows, 48, seed=3), normal(rows, 48, seed=4).bfloat16()
    found = torch.autograd.grad((total, y), leaves, pulls)

    wide = [t.detach().double().requires_grad_() for t in leaves]
    sums = wide[0] + wide[2] if added else wide[0]
    right_y = wide[1] * sums * torch.rsqrt(sums.square().mean(-1, keepdim=True) + EPSILON)
    right = torch.autograd.grad((sums, right_y), wide, [p.double() for p in pulls])
    assert y.dtype == torch.bfloat16
    assert torch.allclose(total.double(), sums, atol=1e-6)
    assert torch.equal(y, right_y.to(torch.bfloat16)) or error(y, right_y) < 2e-3
    for mine, theirs in zip(found, right, strict=True):
        limit = 4e-3 if mine.dtype == torch.bfloat16 else 1e-5
        assert (mine.double() - theirs).norm() <= limit * theirs.norm()


def test_a_norm_whose_sum_nobody_reads_has_the_gradient_of_its_output_alone() -> None:
    x, weight = normal(5, 32).requires_grad_(), normal(32, seed=1)
    _, y = norm(x, None, weight, EPSILON)
    (found,) = torch.autograd.grad(y, x, torch.ones_like(y))
    wide = x.detach().double().requires_grad_()
    right = weight.double() * wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)
    (theirs,) = torch.autograd.grad(right, wide, torch.ones_like(right))
    assert torch.allclose(found.double(), theirs, atol=1e-5)


def test_the_gate_and_its_gradient_equal_float64() -> None:
    both = (normal(37, 96) * 4).bfloat16().requires_grad_()
    out = gate(both)
    pull = normal(37, 48, seed=1).bfloat16()
    (found,) = torch.autograd.grad(out, both, pull)
    wide = both.detach().double().requires_grad_()
    right = functional.silu(wide[:, :48]) * wide[:, 48:]
    (theirs,) = torch.autograd.grad(right, wide, pull.double())
    assert error(out, right) < 2e-3  # one rounding to bf16
    assert error(found, theirs) < 2e-3


def test_extreme_gates_are_finite() -> None:
    both = torch.tensor([[-200.0, 200.0] * 8 + [1.0] * 16]).bfloat16().requires_grad_()
    out = gate(both)
    assert out.tolist() == [[0.0, 200.0] * 8]
    out.sum().backward()
    assert both.grad is not None
    assert bool(torch.isfinite(both.grad).all())


def rotated(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[heads, T, d] turned as transformers does it."""
    half = rows.shape[-1] // 2
    turned = torch.cat([-rows[..., half:], rows[..., :half]], -1)
    return rows * cos + turned * sin


@pytest.mark.parametrize("window", [None, 30])
def test_rotary_attention_equals_rotation_and_tiles_in_float64(window: int | None) -> None:
    forest, scores = random_forest(1), Scores(32**-0.5, window)
    size, heads, kv_heads = forest.unique_tokens, 4, 2
    rows = normal(size, (heads + 2 * kv_heads) * 32).bfloat16()
    angles = forest.positions_T[:, None] * 100.0 ** -torch.linspace(0, 1, 16)
    cos, sin = (f(torch.cat([angles, angles], -1)) for f in (torch.cos, torch.sin))
    leaf = rows.clone().requires_grad_()
    # what is turned in place is the product that the rows come from, never a leaf
    out = rotary_attention(leaf * 1, cos, sin, kv_heads, layout_of(forest, window), scores)
    pull = normal(*out.shape, seed=5).bfloat16()
    (found,) = torch.autograd.grad(out, leaf, pull)

    wide = rows.double().requires_grad_()
    query, key, value = (
        wide.unflatten(1, (-1, 32)).transpose(0, 1).split([heads, kv_heads, kv_heads])
    )
    query, key = (rotated(t, cos.double(), sin.double()) for t in (query, key))
    right = tiled_attention(query, key, value, None, plan_tiles(forest, window), scores)
    (theirs,) = torch.autograd.grad(right, wide, pull.double())
    assert error(out, right) < 5e-3
    assert error(found, theirs) < 8e-3
