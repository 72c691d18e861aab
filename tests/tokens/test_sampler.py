from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler, computed_tokens, cost, cut, whole_conversations
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
    assert cost(first, (), share=False) == 22 + 22, "padding is computed too"
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


def test_whole_conversations_are_drawn_together() -> None:
    """Sizes 3, 1, 4, 2, 2 in batches of 4: what fits is taken in order, nothing is divided."""
    drawn = [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9], [10, 11]]
    assert whole_conversations(drawn, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    # 3 and 3: the second does not fit beside the first, so it is divided to fill the batch.
    assert whole_conversations([[0, 1, 2], [3, 4, 5]], 4) == [[0, 1, 2, 3], [4, 5]]
    # One larger than a batch comes in its turn, and is not put off until the end.
    assert whole_conversations([[0, 1, 2, 3, 4], [5], [6]], 2) == [[0, 1], [2, 3], [4, 5], [6]]


def test_the_order_of_conversations() -> None:
    draw = np.random.default_rng(0)
    names = [f"c{i}" for i in draw.integers(0, 30, 100)] + ["", ""]
    sampler = Sampler(102, 8, 4, names)
    assert sampler.steps_per_epoch == 13
    whole = 0
    for epoch in range(2):
        batches = [sampler.batch(epoch * 13 + k) for k in range(13)]
        assert [len(b) for b in batches] == [8] * 12 + [6]
        assert sorted(row for batch in batches for row in batch) == list(range(102))
        places = [{k for k in range(13) for row in batches[k] if names[row] == n} for n in names]
        whole += sum(len(p) == 1 for p, n in zip(places, names, strict=True) if n)
    assert whole > 2 * 80, "most conversations lie in one step"
    again = Sampler(102, 8, 4, names)
    assert again.batch(20) == sampler.batch(20), "whatever was asked before"
    assert (
        again.batch(0) == Sampler(102, 8, 4, names).batch(0) != Sampler(102, 8, 5, names).batch(0)
    )
    assert sampler.batch(0) != sampler.batch(13)


def test_a_recipe_names_the_order() -> None:
    examples = [replace(pair([1] * 9, [i], [i + 1]), conversation=f"c{i % 3}") for i in range(9)]
    by_example = Sampler.over(examples, 3, 0, "examples")
    assert [by_example.batch(k) for k in range(3)] == [Sampler(9, 3, 0).batch(k) for k in range(3)]
    drawn = [Sampler.over(examples, 3, 0, "conversations").batch(k) for k in range(3)]
    assert sorted(map(sorted, drawn)) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_micro_batch_is_larger_than_the_budget(data: st.DataObject) -> None:
    """Unless one example alone is; and every row is in one, whatever the forests share."""
    share = data.draw(st.booleans())
    token = st.integers(0, 1)
    trunk = data.draw(st.lists(token, min_size=20, max_size=20))
    examples = []
    for _ in range(data.draw(st.integers(1, 12))):
        prompt = [2, *trunk[: data.draw(st.integers(0, 20))], *data.draw(st.lists(token))]
        answers = [data.draw(st.lists(token, min_size=1, max_size=40)) for _ in range(2)]
        examples.append(pair(prompt, *answers))
    budget = data.draw(st.integers(1, 300))
    cuts = cut(examples, range(len(examples)), budget, share=share)
    assert sorted(row for rows in cuts for row in rows) == list(range(len(examples)))
    for rows in cuts:
        tokens = computed_tokens(examples, rows, share=share)
        forest = build_forest([b for r in rows for b in examples[r].branches], share=share)
        lengths = [s.length for s in forest.segments]
        assert tokens == (forest.unique_tokens if share else len(lengths) * max(lengths))
        assert tokens <= budget or len(rows) == 1


def test_padding_counts() -> None:
    short, long = pair([1] * 5, [5], [6]), pair([1] * 99, [5], [6])
    examples = [short, long, short, long]
    # Rows of 6 beside rows of 100 would be padded to 100 each: 4 rows are 400 tokens.
    assert cut(examples, range(4), 400, share=False) == [[0, 2], [1, 3]]
    assert cut(examples, range(4), 399, share=False) == [[0, 2], [1], [3]]
    assert cut(examples, range(4), 800, share=False) == [[0, 2, 1, 3]]
