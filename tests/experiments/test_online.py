"""Methods on their own samples in a small world: judged by the truth, and by what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from palate.experiments.data import Pairs, Words, draw_pairs
from palate.experiments.learner import fit, human, new_policy, table
from palate.experiments.online import (
    ByTable,
    Sampled,
    WorldRenderer,
    drawn,
    score_table,
    train_online,
)
from palate.experiments.training import Effort, Lab, train_offline
from palate.experiments.world import Frontier, make_world, measure
from palate.judge.opinion import Answered, Score
from palate.records import Completion, Example, Message

WORLD = make_world(2, symbols=3, length=3, prompts=4)


@pytest.fixture(scope="module")
def lab() -> Lab:
    policy = new_policy(WORLD, 0)
    fit(policy, WORLD, human(WORLD, 0), steps=300)
    return Lab(policy, Words(WORLD), Effort(steps=40, batch=64, lr=1e-3), seed=1)


@pytest.fixture(scope="module")
def pairs(lab: Lab) -> Pairs:
    return draw_pairs(table(lab.start, WORLD), WORLD.rewards, 4000, 3)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("grpo", {"beta": 0.5}),
    ("rloo", {"beta": 0.5}),
    ("ppo", {"beta": 0.5}),
    ("sppo", {}),
    ("online-dpo", {"beta": 0.5}),
    ("spin", {"beta": 0.5}),
]


EACH = {"spin": (64, 1), "sppo": (16, 4), "online-dpo": (32, 2)}


@pytest.mark.parametrize(("name", "params"), CASES)
def test_it_makes_a_part_of_the_oracles_gain(
    lab: Lab, pairs: Pairs, name: str, params: dict[str, Any]
) -> None:
    sampled = Sampled(*EACH.get(name, (4, 16)), shown=pairs if name == "spin" else None)
    found = train_online(lab, name, params, WORLD.rewards, sampled)
    reference = table(lab.start, WORLD)
    point, frontier = (
        measure(table(found, WORLD), reference, WORLD.rewards),
        Frontier(reference, WORLD.rewards),
    )
    assert point.kl > 0.01
    assert point.reward <= frontier.reward_at(point.kl) + 1e-9
    assert frontier.share(point) > 0.5, point


def test_what_is_drawn_is_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6 steps, GRPO draws for each, PPO for every fourth; two answers to each of 32 prompts."""
    counted: list[int] = []
    real = ByTable.score

    def score(self: ByTable, answers: Sequence[Answered]) -> list[Score]:
        counted.append(len(answers))
        return real(self, answers)

    monkeypatch.setattr(ByTable, "score", score)
    short = replace(lab, effort=Effort(steps=6, batch=64, lr=1e-3))
    for name, sampled, expected in (
        ("grpo", Sampled(4, 16), 6 * 64),
        ("ppo", Sampled(4, 16), 2 * 64),
        ("ppo", Sampled(4, 16, updates=1), 6 * 64),
        ("online-dpo", Sampled(32, 2), 6 * 64),
    ):
        counted.clear()
        train_online(short, name, {}, WORLD.rewards, sampled)
        assert sum(counted) == drawn(name, 6, sampled) == expected, name


def test_doubt_is_bradley_terrys() -> None:
    """Of two answers one nat apart the better one wins σ(1) = 73.1 % of the time."""
    words = Words(WORLD)
    scores = torch.zeros_like(WORLD.rewards)
    scores[:, 0] = 1.0
    judge = ByTable(words, scores, torch.Generator().manual_seed(0))
    asked = Message("user", "ca")
    texts = [WorldRenderer(words).text(WORLD.answers[number].tolist()) for number in (0, 13)]
    pair = [Answered(Example((asked,), (), tags={"number": "2"}), text) for text in texts]
    said = judge.score(pair * 20_000)
    wins = sum(one.value > two.value for one, two in zip(said[::2], said[1::2], strict=True))
    assert wins / 20_000 == pytest.approx(0.7311, abs=0.01)  # 3 standard errors


def test_a_reward_model_ranks_answers_as_the_truth_does(lab: Lab, pairs: Pairs) -> None:
    longer = Lab(lab.start, lab.words, Effort(steps=100, batch=64, lr=1e-3), seed=1)
    found = score_table(train_offline(longer, "reward", {}, pairs), lab.words)
    assert found.shape == WORLD.rewards.shape
    found = found - found.mean(1, keepdim=True)
    both = torch.stack([found.flatten(), WORLD.rewards.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.4


def test_the_table_is_read_at_the_answers_place() -> None:
    words = Words(WORLD)
    judge, renderer = ByTable(words, WORLD.rewards), WorldRenderer(words)
    asked = Message("user", "ca")
    for number in (0, 13, 26):
        text = renderer.text(WORLD.answers[number].tolist())
        said = (Completion((Message("assistant", text),)),)
        example = Example((asked,), said, tags={"number": "2"})
        (score,) = judge.score([Answered(example, text)])
        assert score.value == float(WORLD.rewards[2, number])
        assert renderer.render(example).branches[0] is words.branch(2, number)
        assert list(renderer.asked(example).prompt_ids) == WORLD.prompts[2].tolist()
