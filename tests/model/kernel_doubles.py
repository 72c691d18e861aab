"""What the GPU's operators promise, computed on the CPU: stand-ins with the same contract."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from palate.model.varlen import VarlenPlan
from palate.tokens.tree import Branch, Forest, build_forest


def _one(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    """One sequence of flash attention: the causal edge at the bottom right, heads shared."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    query = torch.arange(q.shape[0])[:, None] + k.shape[0] - q.shape[0]
    key = torch.arange(k.shape[0])[None]
    seen = key <= query
    if window is not None:
        seen &= key >= query - (window - 1)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def _all(
    q: Tensor, k: Tensor, v: Tensor, plan: VarlenPlan, scale: float, window: int | None
) -> Tensor:
    dtype = q.dtype
    q, k, v = (t.to(torch.promote_types(dtype, torch.float32)) for t in (q, k, v))
    queries, keys = plan.queries_S.tolist(), plan.keys_S.tolist()
    assert queries[-1] == len(q)
    assert keys[-1] == len(k)
    assert max(b - a for a, b in itertools.pairwise(queries)) == plan.longest_query
    assert max(b - a for a, b in itertools.pairwise(keys)) == plan.longest_key
    return torch.cat(
        [
            _one(q[a:b], k[c:d], v[c:d], scale, window)
            for a, b, c, d in zip(queries, queries[1:], keys, keys[1:], strict=False)
        ]
    ).to(dtype)


def forward(
    q: Tensor, k: Tensor, v: Tensor, plan: VarlenPlan, scale: float, window: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    nothing = torch.empty(0)
    return _all(q, k, v, plan, scale, window), nothing, nothing, nothing


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: tuple[Tensor, ...],
    plan: VarlenPlan,
    scale: float,
    window: int | None,
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (q, k, v)]
        out = _all(*inputs, plan, scale, window)
    torch.testing.assert_close(out, kept[0])
    return torch.autograd.grad(out, inputs, grad)


def use_doubles(monkeypatch: Any) -> None:
    """The varlen operator and flex attention, on a CPU."""
    from torch.nn.attention import flex_attention as theirs

    from palate.model import flex, varlen

    monkeypatch.setattr(varlen, "flash_forward", forward)
    monkeypatch.setattr(varlen, "flash_backward", backward)
    # flex writes out its scores when it is not compiled, and autograd knows that form on a CPU
    # too; torch refuses it there because the compiled one has no backward pass.
    monkeypatch.setattr(theirs, "_validate_device", lambda *_: None)
    monkeypatch.setattr(theirs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(flex, "fused", lambda: theirs.flex_attention)


def random_forest(seed: int, *, longest: int = 9, branches: int = 9) -> Forest:
    """Branches that part at random places, some of them more than once."""
    draw = torch.Generator().manual_seed(seed)

    def upto(n: int) -> int:
        return int(torch.randint(1, n + 1, (1,), generator=draw))

    paths: list[list[int]] = []
    for number in range(branches):
        stem = paths[upto(len(paths)) - 1] if paths and upto(4) > 1 else []
        stem = stem[: upto(len(stem))] if stem else []
        paths.append([*stem, *[number + 1] * upto(longest), number])
    return build_forest(
        [Branch(p, [False] * (len(p) - 1) + [True]) for p in paths if len(p) > 1], min_shared=1
    )
