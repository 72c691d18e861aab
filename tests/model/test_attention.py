from __future__ import annotations

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from palate.model.attention import TREE_ATTENTION, tree_attention
from palate.tokens.tree import Branch, Forest, build_forest


def forest_of(*lengths: int) -> Forest:
    """A root of the first length with one child for each further length."""
    root = [0] * lengths[0]
    branches = [
        Branch([*root, *[k + 1] * n], [False] * lengths[0] + [True] * n)
        for k, n in enumerate(lengths[1:])
    ]
    return build_forest(branches, min_shared=1)


def by_hand(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, forest: Forest, window: int | None
) -> torch.Tensor:
    """Softmax over the allowed rows, written with one dense mask over the packed row."""
    size = forest.unique_tokens
    allowed = torch.zeros(size, size, dtype=torch.bool)
    for segment in forest.segments:
        rows = [r for a, b in (*segment.context, (segment.start, segment.end)) for r in range(a, b)]
        for position, row in enumerate(rows):
            if row < segment.start:
                continue
            first = 0 if window is None else max(0, position - window + 1)
            allowed[row, rows[first : position + 1]] = True
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return (scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v).transpose(1, 2)


def test_it_equals_one_dense_mask_with_and_without_a_window() -> None:
    forest = forest_of(7, 4, 3)
    torch.manual_seed(0)
    q = torch.randn(1, 4, forest.unique_tokens, 8, dtype=torch.float64)
    k, v = torch.randn(2, 1, 2, forest.unique_tokens, 8, dtype=torch.float64)
    for window in (None, 3, 9, 100):
        out, _ = tree_attention(
            torch.nn.Module(), q, k, v, None, forest=forest, sliding_window=window
        )
        assert torch.allclose(out, by_hand(q, k, v, forest, window), atol=1e-12), window


def test_the_written_out_path_equals_the_fused_one() -> None:
    forest = forest_of(5, 3, 2)
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, forest.unique_tokens, 8)
    fused, _ = tree_attention(torch.nn.Module(), q, k, v, None, forest=forest)
    # a cap so large that tanh is the identity; sinks that weigh nothing
    capped, _ = tree_attention(torch.nn.Module(), q, k, v, None, forest=forest, softcap=1e5)
    sunk, _ = tree_attention(
        torch.nn.Module(), q, k, v, None, forest=forest, s_aux=torch.full((2,), -1e9)
    )
    assert torch.allclose(fused, capped, atol=1e-5)
    assert torch.allclose(fused, sunk, atol=1e-6)


def test_transformers_builds_no_mask_for_our_name() -> None:
    assert TREE_ATTENTION not in ALL_MASK_ATTENTION_FUNCTIONS


def test_caps_and_sinks_by_hand_with_query_heads_that_share_a_key_head() -> None:
    """Each query head has its own sink: a column of the softmax that no value belongs to."""
    forest = forest_of(7, 4, 3, 4)
    torch.manual_seed(0)
    q = torch.randn(1, 4, forest.unique_tokens, 8, dtype=torch.float64)
    k, v = torch.randn(2, 1, 2, forest.unique_tokens, 8, dtype=torch.float64)
    sinks = torch.tensor([-1.0, 0.5, 2.0, 3.0])
    out, _ = tree_attention(
        torch.nn.Module(), q, k, v, None, forest=forest, softcap=0.7, s_aux=sinks
    )
    wide_k, wide_v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    for segment in forest.segments:
        path = [r for a, b in (*segment.context, (segment.start, segment.end)) for r in range(a, b)]
        for row in range(segment.start, segment.end):
            seen = path[: segment.position + row - segment.start + 1]
            for head in range(4):
                scores = wide_k[0, head, seen] @ q[0, head, row] * 8**-0.5
                scores = 0.7 * torch.tanh(scores / 0.7)
                total = scores.exp().sum() + sinks[head].double().exp()
                expected = (scores.exp() / total) @ wide_v[0, head, seen]
                assert torch.allclose(out[0, row, head], expected, atol=1e-6)
