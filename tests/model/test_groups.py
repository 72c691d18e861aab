from __future__ import annotations

import torch

from palate.model.groups import PADDING, divide, path_of, plan_attention
from palate.model.rows import gather, put, take
from palate.tokens.tree import Branch, Forest, Segment, build_forest


def forest() -> Forest:
    """A system prompt of 9, two prompts of 4 below it, three answers below each."""
    branches = []
    for prompt in (1, 2):
        for answer, length in ((3, 5), (4, 6), (5, 2)):
            ids = [*[0] * 9, *[prompt] * 4, *[answer] * length]
            branches.append(Branch(ids, [False] * 13 + [True] * length))
    return build_forest(branches, min_shared=1)


def test_every_row_is_computed_once_and_comes_back_to_its_place() -> None:
    plan = plan_attention(forest(), None, torch.float32)
    rows = [torch.arange(a, b) for a, b in plan.roots] + [g.rows_N for g in plan.groups]
    computed = torch.cat(rows)
    assert computed[plan.order].tolist() == list(range(forest().unique_tokens))


def test_keys_are_the_path_and_the_bias_is_causal() -> None:
    tree = forest()
    for group in plan_attention(tree, None, torch.float32).groups:
        keys = group.keys.view(group.members, group.length)
        for member in range(group.members):
            rows = group.rows_N[group.places_N // group.width == member]
            segment = next(s for s in tree.segments if s.start == int(rows[0]))
            path = [r for a, b in path_of(segment) for r in range(a, b)]
            assert keys[member, : len(path)].tolist() == path
            for query in range(segment.length):
                seen = group.bias[member, 0, query] == 0
                assert seen.nonzero()[:, 0].tolist() == list(range(segment.position + query + 1))


def test_padding_stays_within_its_limit() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 90, (60,), generator=draw).tolist()
    segments = [Segment(k * 100, k * 100 + n, 0, 50, ((0, 50),)) for k, n in enumerate(lengths)]
    parts = divide(segments)
    assert sum(len(part) for part in parts) == 60
    for part in parts:
        widest = max(s.length for s in part)
        longest = max(s.position + s.length for s in part)
        needed = sum(s.length * (s.position + s.length) for s in part)
        assert len(part) * widest * longest <= PADDING * needed


def test_the_sums_of_the_backward_pass_are_autograds() -> None:
    tree = forest()
    for group in plan_attention(tree, None, torch.float64).groups:
        rows = torch.randn(tree.unique_tokens, 3, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(group.members * group.length, 3, dtype=torch.float64)
        # padding repeats row 0 and gets no gradient from attention
        ends = [sum(b - a for a, b in path_of(s)) for s in _members(tree, group.rows_N)]
        for member, end in enumerate(ends):
            weight.view(group.members, group.length, 3)[member, end:] = 0
        (gather(rows, group) * weight).sum().backward()
        found = rows.grad.clone()  # type: ignore[union-attr]
        rows.grad = None
        (rows[group.keys] * weight).sum().backward()
        assert torch.allclose(found, rows.grad, atol=1e-12)  # type: ignore[arg-type]


def _members(tree: Forest, rows: torch.Tensor) -> list[Segment]:
    starts = set(rows.tolist())
    return [s for s in tree.segments if s.start in starts]


def test_take_and_put_are_inverse_and_exact_backward() -> None:
    rows = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 0, 2])
    back = put(take(rows, index), index, 5)
    assert torch.equal(back[index], rows[index])
    assert float(back[[1, 3]].detach().abs().sum()) == 0
    assert torch.autograd.gradcheck(lambda r: put(take(r, index), index, 5), rows)


def test_bf16_sums_over_many_branches_are_accumulated_in_fp32() -> None:
    """64 branches with a gradient of 1 + 2^-7 each: exact in fp32, lost in a bf16 running sum."""
    branches = [Branch([0] * 9 + [k + 1], [False] * 9 + [True]) for k in range(64)]
    tree = build_forest(branches, min_shared=1)
    (group,) = plan_attention(tree, None, torch.bfloat16).groups
    rows = torch.zeros(tree.unique_tokens, 1, dtype=torch.bfloat16, requires_grad=True)
    grad = torch.full((group.members * group.length, 1), 1.0078125, dtype=torch.bfloat16)
    gather(rows, group).backward(grad)
    assert rows.grad is not None
    assert float(rows.grad[0]) == 64.5
