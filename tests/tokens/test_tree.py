from __future__ import annotations

import numpy as np
import pytest

from palate.tokens.tree import (
    Branch,
    Forest,
    build_forest,
    common_prefix,
    packed_tokens,
    unique_tokens,
)


def branch(ids: list[int], trained: int) -> Branch:
    return Branch(ids, [False] * (len(ids) - trained) + [True] * trained)


def shape(forest: Forest) -> list[tuple[int, int, int, int]]:
    return [(s.start, s.end, s.parent, s.position) for s in forest.segments]


def test_two_answers_share_their_prompt() -> None:
    # prompt 1 2 3, answers 4 5 and 6: one root of three tokens with two children
    forest = build_forest([branch([1, 2, 3, 4, 5], 2), branch([1, 2, 3, 6], 1)], min_shared=1)
    assert forest.ids_T.tolist() == [1, 2, 3, 4, 5, 6]
    assert forest.positions_T.tolist() == [0, 1, 2, 3, 4, 3]
    assert shape(forest) == [(0, 3, -1, 0), (3, 5, 0, 3), (5, 6, 0, 3)]
    assert forest.segments[1].context == ((0, 3),)
    assert (forest.unique_tokens, forest.path_tokens) == (6, 9)


def test_the_parents_last_token_predicts_both_first_tokens() -> None:
    forest = build_forest([branch([1, 2, 3, 4, 5], 2), branch([1, 2, 3, 6], 1)], min_shared=1)
    # supervised: 4 (from row 2), 5 (from row 3), 6 (from row 2)
    assert forest.hidden_H.tolist() == [2, 3]
    scored = [
        (int(forest.hidden_H[forest.rows_P[p]]), int(forest.targets_P[p]))
        for p in forest.predictions_N.tolist()
    ]
    assert scored == [(2, 4), (3, 5), (2, 6)]
    assert forest.branches_N.tolist() == [0, 0, 1]


def test_system_prompt_and_turns_are_shared_on_every_level() -> None:
    system, ask_a, ask_b = [9] * 4, [1] * 3, [2] * 3
    branches = [
        branch([*system, *ask_a, 3], 1),
        branch([*system, *ask_a, 4], 1),
        branch([*system, *ask_b, 3], 1),
        branch([*system, *ask_b, 4], 1),
    ]
    forest = build_forest(branches, min_shared=2)
    # 4 shared by all, 3 by each pair, 1 for each answer: 4 + 2 * (3 + 1 + 1)
    assert forest.unique_tokens == 14
    assert forest.path_tokens == 32
    assert unique_tokens([b.ids for b in branches]) == 14
    depths = sorted(len(s.context) for s in forest.segments)
    assert depths == [0, 1, 1, 2, 2, 2, 2]


def test_a_short_common_beginning_is_repeated() -> None:
    branches = [branch([1, 2, 3, 4], 1), branch([1, 2, 5, 6], 1)]
    assert not build_forest(branches, min_shared=3).shared
    assert build_forest(branches, min_shared=3).unique_tokens == 8
    assert build_forest(branches, min_shared=2).unique_tokens == 6


def test_a_deep_beginning_is_shared_below_a_short_one() -> None:
    # all three share one token (too short); the last two share five
    branches = [branch([1, 2, 3], 1), branch([1, 7, 7, 7, 7, 8], 1), branch([1, 7, 7, 7, 7, 9], 1)]
    forest = build_forest(branches, min_shared=4)
    assert forest.unique_tokens == 3 + 5 + 1 + 1


def test_without_sharing_each_branch_is_a_root() -> None:
    branches = [branch([1, 2, 3], 1), branch([1, 2, 4], 1)]
    forest = build_forest(branches, share=False)
    assert shape(forest) == [(0, 3, -1, 0), (3, 6, -1, 0)]
    assert forest.unique_tokens == forest.path_tokens == 6


def test_equal_branches_and_a_branch_that_is_the_beginning_of_another() -> None:
    branches = [branch([1, 2, 3], 1), branch([1, 2, 3], 1), branch([1, 2, 3, 4, 5], 2)]
    forest = build_forest(branches, min_shared=1)
    assert forest.ids_T.tolist() == [1, 2, 3, 4, 5]
    assert forest.branches_N.tolist() == [0, 1, 2, 2]
    assert forest.targets_P[forest.predictions_N].tolist() == [3, 3, 4, 5]


def test_supervised_tokens_that_branches_share_are_scored_once() -> None:
    # both answers begin with 4 4 4
    forest = build_forest([branch([1, 4, 4, 4, 5], 4), branch([1, 4, 4, 4, 6], 4)], min_shared=1)
    assert len(forest.targets_P) == 5
    assert len(forest.predictions_N) == 8


def test_branches_keep_their_numbers_whatever_the_order() -> None:
    generator = np.random.default_rng(0)
    branches = []
    for _ in range(30):
        prompt = [int(t) for t in generator.integers(0, 2, generator.integers(1, 12))]
        answer = [int(t) for t in generator.integers(0, 3, generator.integers(1, 6))]
        branches.append(branch([*prompt, *answer], len(answer)))
    for minimum in (1, 2, 5):
        forest = build_forest(branches, min_shared=minimum)
        targets = forest.targets_P[forest.predictions_N]
        for index, one in enumerate(branches):
            wanted = [t for t, trained in zip(one.ids, one.mask, strict=True) if trained]
            assert targets[forest.branches_N == index].tolist() == wanted
        for segment in forest.segments:
            assert all(end <= segment.start for _, end in segment.context), "parents come first"
    assert build_forest(branches, min_shared=1, worth=0).unique_tokens == unique_tokens(
        [b.ids for b in branches]
    )


def test_sharing_that_does_not_pay_is_left_out() -> None:
    """Two paths of 100 tokens that share n: n of 200 are saved, and 3 % of 200 is 6."""
    for common, pays in ((6, True), (5, False)):
        start = [1] * common
        branches = [branch([*start, *[k] * (100 - common)], 1) for k in (2, 3)]
        assert build_forest(branches, min_shared=1).shared is pays
        assert packed_tokens([b.ids for b in branches]) == 200, "and at least 8 tokens"
    assert build_forest(branches, min_shared=1, worth=0.02).shared
    # 20 of 400 tokens for the whole, but a third of what the two short paths below it hold.
    long = [branch([9] * 40 + [k] * 120, 1) for k in (1, 2)]
    short = [branch([8] * 20 + [k] * 10, 1) for k in (1, 2)]
    forest = build_forest([*long, *short])
    assert forest.unique_tokens == 40 + 2 * 120 + 20 + 2 * 10
    assert packed_tokens([b.ids for b in [*long, *short]]) == forest.unique_tokens


def test_a_deeper_beginning_is_shared_though_the_first_is_not() -> None:
    """Three paths begin alike for 10 tokens of 1000, two of them for 500."""
    deep = [branch([1] * 500 + [k] * 500, 1) for k in (2, 3)]
    other = branch([1] * 10 + [4] * 990, 1)
    forest = build_forest([*deep, other])
    # Sharing the 10 would save 10 of 2510 computed: they are repeated, the 500 are not.
    assert sorted(s.length for s in forest.segments) == [500, 500, 500, 1000]


def test_a_first_token_cannot_be_trained_on() -> None:
    with pytest.raises(AssertionError):
        Branch([1, 2], [True, True])


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([1, 2, 3], [1, 2, 3], start=2) == 3
