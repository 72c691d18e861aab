from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.kernel_doubles import random_forest, use_doubles
from tests.model.test_attention import by_hand
from torch import Tensor

from palate.model import varlen
from palate.model.varlen import plan_varlen, supports_varlen, varlen_attention
from palate.tokens.tree import Branch, Forest, build_forest


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_doubles(monkeypatch)


def tensors(forest: Forest, seed: int = 0, heads: int = 4) -> list[Tensor]:
    torch.manual_seed(seed)
    size = forest.unique_tokens
    shapes = [(1, heads, size, 8), (1, 2, size, 8), (1, 2, size, 8)]
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_one_dense_mask_with_its_gradients(seed: int, window: int | None) -> None:
    forest = random_forest(seed)
    q, k, v = tensors(forest, seed)
    out = varlen_attention(q, k, v, forest, 8**-0.5, window)
    expected = by_hand(q, k, v, forest, window)
    assert torch.allclose(out, expected, atol=1e-12)
    for mine, theirs in zip(gradients(out, [q, k, v]), gradients(expected, [q, k, v]), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-11)


def test_a_forest_of_roots_gathers_nothing() -> None:
    forest = build_forest([Branch([1] * 5, [False] * 5), Branch([2] * 3, [False] * 3)])
    plan = plan_varlen(forest)
    assert plan.rows_N is None
    assert plan.queries_S.tolist() == plan.keys_S.tolist() == [0, 5, 8]
    assert plan.queries_S.dtype == torch.int32
    q, k, v = tensors(forest)
    out = varlen_attention(q, k, v, forest, 8**-0.5, None)
    assert torch.allclose(out, by_hand(q, k, v, forest, None), atol=1e-12)
    torch.autograd.grad(out.sum(), [q, k, v])


def test_gathered_keys_are_not_kept_for_the_backward_pass() -> None:
    """64 branches below a trunk of 50: the paths are 64 times 51 rows, the packed row is 114."""
    forest = build_forest(
        [Branch([0] * 50 + [i + 1], [False] * 50 + [True]) for i in range(64)], min_shared=1
    )
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape[0])
        return tensor

    q, k, v = tensors(forest)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        varlen_attention(q, k, v, forest, 1.0, None)
    assert len(plan_varlen(forest).rows_N) == 50 + 64 * 51  # type: ignore[arg-type]
    assert max(kept) == forest.unique_tokens


def test_a_trunks_gradient_is_summed_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 64 branches gives the trunk 1 + 2^-7, exact in bf16; a running bf16 sum loses it."""
    forest = build_forest(
        [Branch([0] * 9 + [i + 1], [False] * 9 + [True]) for i in range(64)], min_shared=1
    )

    def ones(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, ...]:
        value = torch.full_like(k, 1.0078125)
        return torch.zeros_like(q), value, value

    monkeypatch.setattr(varlen, "flash_backward", ones)
    q, k, v = (t.detach().bfloat16().requires_grad_() for t in tensors(forest))
    varlen_attention(q, k, v, forest, 1.0, None).sum().backward()
    assert k.grad is not None
    # 64 branches and the trunk itself, 65.5078125, rounded once to bf16
    assert float(k.grad[0, 0, 0, 0]) == 65.5
    assert float(k.grad[0, 0, 20, 0]) == 1.0078125


def test_what_the_kernel_takes() -> None:
    def heads(width: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.empty(1, 2, 3, width, dtype=dtype)

    assert supports_varlen(heads(64), special=False)
    assert not supports_varlen(heads(64, torch.float32), special=False)
    assert not supports_varlen(heads(20), special=False)
    assert not supports_varlen(heads(512), special=False)
    assert not supports_varlen(heads(64), special=True)


def test_the_operators_have_the_arguments_we_pass() -> None:
    """The real operators' schemas, by name and order: a torch that changes them is noticed."""
    forward = torch.ops.aten._flash_attention_forward.default._schema
    names = [argument.name for argument in forward.arguments]
    assert names[:10] == [
        *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
        *("dropout_p", "is_causal", "return_debug_mask"),
    ]
    assert {"scale", "window_size_left", "window_size_right"} <= set(names)
    assert len(forward.returns) >= 4
    backward = torch.ops.aten._flash_attention_backward.default._schema
    names = [argument.name for argument in backward.arguments]
    assert names[:14] == [
        *("grad_out", "query", "key", "value", "out", "logsumexp", "cum_seq_q", "cum_seq_k"),
        *("max_q", "max_k", "dropout_p", "is_causal", "rng_state", "unused"),
    ]
