"""The tiny transformer's exact log-probs are those of the engine, and it can be fitted."""

from __future__ import annotations

import pytest
import torch

from palate.experiments.data import Words
from palate.experiments.learner import copied, fit, human, logps, new_policy, table, token_table
from palate.experiments.world import Frontier, World, make_world, measure, tilted
from palate.model.score import score

WORLD = make_world(2, symbols=3, length=3, prompts=4)
ENDS = make_world(2, symbols=3, length=3, prompts=4, ends=True)


@pytest.mark.parametrize("world", [WORLD, ENDS], ids=["one length", "with an end"])
def test_the_table_is_what_the_engine_says_of_every_answer(world: World) -> None:
    policy, words, count = new_policy(world, 5), Words(world), len(world.answers)
    found, each = table(policy, world), token_table(policy, world)
    assert found.shape == (4, count)
    assert torch.allclose(found.exp().sum(1), torch.ones(4, dtype=torch.float64))
    for prompt in range(4):
        rows = [words.example(prompt, (answer,)) for answer in range(count)]
        for answer, said in enumerate(score(policy, rows, 64)):
            tokens = len(said)
            assert tokens == int(world.tokens_A[answer])
            assert torch.allclose(each[prompt, answer, :tokens].float(), said, atol=1e-5)
            assert not each[prompt, answer, tokens:].any()


def test_people_write_every_length_as_often() -> None:
    lengths = ENDS.words_A
    mass = torch.stack([human(ENDS, 0).exp()[:, lengths == n].sum(1) for n in (0, 1, 2, 3)])
    each = torch.tensor([[0], [1 / 3], [1 / 3], [1 / 3]], dtype=torch.float64)
    assert torch.allclose(mass, each.expand(4, 4))


def test_log_probs_of_some_prompts_carry_a_gradient() -> None:
    policy = new_policy(WORLD, 5)
    two = logps(policy, WORLD, [3, 1])
    assert torch.equal(two.detach(), table(policy, WORLD)[[3, 1]])
    two[0, 4].backward()
    assert all(weight.grad is not None for weight in policy.parameters())


def test_it_can_be_fitted_to_a_table_nearly_exactly() -> None:
    """On the frontier's policy at λ = 2 of its own start: over 99 % of the oracle's gain."""
    policy = new_policy(WORLD, 0)
    fit(policy, WORLD, human(WORLD, 0), steps=300)
    reference = table(policy, WORLD)
    assert float((human(WORLD, 0).exp() * (human(WORLD, 0) - reference)).sum(1).mean()) < 0.02
    frontier, other = Frontier(reference, WORLD.rewards), copied(policy)
    fit(other, WORLD, tilted(reference, WORLD.rewards, 2.0), steps=400, lr=1e-3)
    point, best = measure(table(other, WORLD), reference, WORLD.rewards), frontier.at_slope(2.0)
    assert frontier.share(point) == pytest.approx(1, abs=0.01)
    assert point.kl == pytest.approx(best.kl, rel=0.05)
    assert torch.equal(table(policy, WORLD), reference)  # the copy is apart


def test_what_people_write_is_not_the_reward() -> None:
    written = human(WORLD, 2)
    assert not torch.allclose(written, human(WORLD, 3))
    apart = torch.corrcoef(torch.stack([written.flatten(), WORLD.rewards.flatten()]))[0, 1]
    assert abs(float(apart)) < 0.5
