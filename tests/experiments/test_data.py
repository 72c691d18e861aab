"""Pairs are Bradley-Terry's, unequal, and flipped as often as asked."""

from __future__ import annotations

import pytest
import torch

from palate.experiments.data import Words, draw_pairs, draw_thumbs, examples
from palate.experiments.world import make_world

WORLD = make_world(2, symbols=3, length=3, prompts=4)
UNIFORM = torch.zeros(4, 27, dtype=torch.float64).log_softmax(1)


def test_pairs_are_unequal_and_won_as_the_rewards_say() -> None:
    pairs = draw_pairs(UNIFORM, WORLD.rewards, 40_000, 7)
    assert not bool((pairs.chosen == pairs.rejected).any())
    gap = WORLD.rewards[pairs.prompt, pairs.chosen] - WORLD.rewards[pairs.prompt, pairs.rejected]
    for low in (0.2, 1.0, 2.0):  # pairs whose gap is near `low`, whoever won
        near = (gap.abs() - low).abs() < 0.1
        won = float((gap[near] > 0).double().mean())
        assert won == pytest.approx(float(torch.tensor(low).sigmoid()), abs=0.03)


def test_each_answer_comes_as_often_as_the_policy_says_it() -> None:
    """Of a uniform policy each answer is as often in a pair, chosen or rejected, as any other."""
    pairs = draw_pairs(UNIFORM, WORLD.rewards, 40_000, 8)
    both = torch.cat([pairs.chosen, pairs.rejected])
    assert torch.allclose(
        torch.bincount(both, minlength=27) / len(both), torch.tensor(1 / 27), atol=3e-3
    )


def test_the_second_is_drawn_as_if_the_first_were_not_there() -> None:
    """Of answers with .5, .3, .2 and one that is never said: P(first, second) by hand.

    .5 · .3/.5, .5 · .2/.5; .3 · .5/.7, .3 · .2/.7; .2 · .5/.8, .2 · .3/.8.
    """
    policy = torch.tensor([[0.5, 0.0, 0.3, 0.2]], dtype=torch.float64).log()
    # By these scores the later answer wins: the order in a pair is that of the numbers.
    sure = 1000 * torch.arange(4.0, dtype=torch.float64).expand(1, -1)
    pairs = draw_pairs(policy, sure, 200_000, 5)
    assert bool((pairs.chosen > pairs.rejected).all())
    found = torch.bincount(4 * pairs.rejected + pairs.chosen, minlength=16) / len(pairs)
    expected = torch.zeros(16)
    expected[0 * 4 + 2] = 0.3 + 0.15 / 0.7  # .514286
    expected[0 * 4 + 3] = 0.2 + 0.1 / 0.8  # .325
    expected[2 * 4 + 3] = 0.06 / 0.7 + 0.06 / 0.8  # .160714
    assert torch.allclose(found, expected, atol=5e-3)


def test_flips_turn_over_the_share_that_is_asked_for() -> None:
    plain, flipped = (
        draw_pairs(UNIFORM, WORLD.rewards, 20_000, 9, flips=flips) for flips in (0.0, 0.2)
    )
    assert torch.equal(plain.prompt, flipped.prompt)
    turned = plain.chosen != flipped.chosen
    assert torch.equal(plain.chosen[turned], flipped.rejected[turned])
    assert float(turned.double().mean()) == pytest.approx(0.2, abs=0.01)


def test_how_each_shape_reads_a_pair() -> None:
    pairs, words = draw_pairs(UNIFORM, WORLD.rewards, 3, 1), Words(WORLD)
    prompt, chosen, rejected = (
        int(part[0]) for part in (pairs.prompt, pairs.chosen, pairs.rejected)
    )
    asked = WORLD.prompts[prompt].tolist()
    ids = [[*asked, *WORLD.answers[answer].tolist()] for answer in (chosen, rejected)]
    both = examples(words, pairs, "pair")
    assert len(both) == 3
    assert [list(branch.ids) for branch in both[0].branches] == ids
    assert list(both[0].branches[0].mask) == [False, False, True, True, True]
    (shown,) = examples(words, pairs, "demonstration")[0].branches
    assert list(shown.ids) == ids[0]
    thumbs = examples(words, pairs, "labelled")[:2]
    assert [(list(t.branches[0].ids), t.desirable) for t in thumbs] == [
        (ids[0], True),
        (ids[1], False),
    ]


def test_rivals_say_who_may_stand_beside_the_first() -> None:
    """Answers that begin with the same two symbols of three: numbers with the same third."""
    every = torch.arange(27)
    pairs = draw_pairs(
        UNIFORM,
        WORLD.rewards,
        9000,
        4,
        rivals=lambda first: every[None] // 3 == first[:, None] // 3,
    )
    assert torch.equal(pairs.chosen // 3, pairs.rejected // 3)
    assert not bool((pairs.chosen == pairs.rejected).any())
    assert len(torch.unique(pairs.chosen)) == 27


def test_thumbs_are_one_of_each_pair_as_many_up_as_asked() -> None:
    pairs = draw_pairs(UNIFORM, WORLD.rewards, 1000, 4)
    thumbs = draw_thumbs(pairs, 0.02, 7)
    assert len(thumbs) == 1000
    assert int(thumbs.up.sum()) == 20
    assert torch.equal(thumbs.answer, torch.where(thumbs.up, pairs.chosen, pairs.rejected))
    rows = examples(Words(WORLD), thumbs, "labelled")
    assert [row.desirable for row in rows] == thumbs.up.tolist()


def test_a_branch_knows_its_place_with_and_without_an_end() -> None:
    """Shorter answers end with a symbol of its own, those of full length do not."""
    ends = make_world(2, symbols=3, length=3, prompts=4, ends=True)
    for world, tokens in ((WORLD, {3}), (ends, {1, 2, 3})):
        words = Words(world)
        for prompt in (0, 3):
            for answer in range(len(world.answers)):
                branch = words.branch(prompt, answer)
                assert words.place(branch) == (prompt, answer)
                assert sum(branch.mask) in tokens
    short = Words(ends).branch(0, 2)
    assert list(short.ids) == [*ends.prompts[0].tolist(), 1, 3]
    assert list(Words(ends).branch(0, 39).ids)[2:] == [2, 2, 2]
