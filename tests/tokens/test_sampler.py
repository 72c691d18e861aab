from __future__ import annotations

import pytest

from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, cost, cut
from palate.tokens.tree import Branch, build_forest


def pair(prompt: list[int], chosen: list[int], rejected: list[int]) -> Rendered:
    branches = tuple(
        Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for answer in (chosen, rejected)
    )
    return Rendered("x", len(prompt), branches)


def test_every_example_comes_once_an_epoch() -> None:
    sampler = Sampler(10, 4, seed=3)
    assert sampler.steps_per_epoch == 3
    for epoch in range(3):
        batches = [sampler.batch(epoch * 3 + k) for k in range(3)]
        assert [len(b) for b in batches] == [4, 4, 2]
        assert sorted(row for batch in batches for row in batch) == list(range(10))


def test_order_is_a_pure_function_of_seed_epoch_and_step() -> None:
    assert Sampler(50, 8, 1).batch(9) == Sampler(50, 8, 1).batch(9)
    first, second = Sampler(50, 50, 1).batch(0), Sampler(50, 50, 1).batch(1)
    assert first != second
    assert first != Sampler(50, 50, 2).batch(0)


def test_total_steps() -> None:
    assert Sampler(10, 4, 0).total_steps(2, None) == 6
    assert Sampler(10, 4, 0).total_steps(0.5, None) == 2
    assert Sampler(10, 4, 0).total_steps(2, 5) == 5


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Sampler(0, 4, 0)


def test_cost_counts_what_the_forest_will_hold() -> None:
    prompt = list(range(20))
    first, second = pair(prompt, [50, 51], [52]), pair([*prompt, 30], [50], [52, 53])
    assert cost(first, (), share=True) == 20 + 3
    assert cost(second, first.branches[0].ids, share=True) == 1 + 3
    assert cost(first, (), share=False) == 22 + 21
    both = build_forest([*first.branches, *second.branches], min_shared=1)
    assert both.unique_tokens == 23 + 4


def test_cut_keeps_the_budget_and_puts_siblings_together() -> None:
    left, right = [1] * 20, [2] * 20
    examples = [
        pair(left, [5], [6]),
        pair(right, [5], [6]),
        pair([*left, 7], [5], [6]),
        pair([*right, 7], [5], [6]),
    ]
    cuts = cut(examples, [0, 1, 2, 3], budget=30)
    assert sorted(map(sorted, cuts)) == [[0, 2], [1, 3]]
    for rows in cuts:
        forest = build_forest([b for r in rows for b in examples[r].branches])
        assert forest.unique_tokens <= 30
    assert sorted(map(sorted, cut(examples, [3, 0], budget=10))) == [[0], [3]]
    assert [len(c) for c in cut(examples, [0, 1, 2, 3], budget=10**6)] == [4]
    assert [len(c) for c in cut(examples, [0, 1, 2, 3], budget=50, share=False)] == [1, 1, 1, 1]
