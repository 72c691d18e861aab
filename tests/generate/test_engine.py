"""The engine as a server uses it: prompts come and go, settings and adapters differ by row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.generate.test_sampling import PROMPTS, SHARED, ids
from tests.model.test_many_adapters import merged, save_adapter
from tests.tiny import VOCABULARY, tiny_model

from palate.generate.batches import Batches
from palate.generate.draw import Sampling, pick
from palate.generate.engine import Engine
from palate.generate.plan import split_ids
from palate.generate.sampling import sample
from palate.generate.schedule import Schedule
from palate.model.many_adapters import ManyAdapters
from palate.model.policy import Policy

HOW = Sampling(max_new_tokens=9, temperature=1.0, top_k=0, seed=3)
MANY = PROMPTS["shared"] + PROMPTS["different"] + [ids(70, 6), [*SHARED, *ids(9, 5)]]


def draw(answers: Any, logits: list[torch.Tensor]) -> None:
    numbers = [answer.uniforms[len(answer.ids)] for answer in answers]
    tokens, logps = pick(logits, torch.tensor(numbers, dtype=torch.float64), HOW)
    for answer, token, logp in zip(answers, tokens.tolist(), logps.tolist(), strict=True):
        answer.ids.append(token)
        answer.logps.append(logp)


def uniforms(key: int) -> np.ndarray:
    return HOW.uniforms(0, key)


def alone(model: Any, prompt: list[int], key: int) -> tuple[int, ...]:
    """What `sample` draws with the same random numbers."""
    policy = Policy(model, layout="plain").eval()
    return sample(policy, [prompt], HOW, end_ids=[-1], n=key + 1)[0][key].ids


def drive(
    engine: Any, schedule: Schedule[int], arrivals: list[tuple[tuple[int, ...], int]]
) -> dict[int, tuple[int, ...]]:
    """Prompts arrive while others are answered; each answer ends after its last token."""
    waiting, found = list(arrivals), {}
    chance = random.Random(0)
    with torch.no_grad():
        while waiting or schedule.answers or schedule.queued:
            for _ in range(chance.randint(0, 2)):
                if waiting:
                    prompt, key = waiting.pop(0)
                    schedule.add(prompt, [key])
            if not engine.step(schedule, uniforms):
                continue
            done = [len(answer.ids) == HOW.max_new_tokens for answer in schedule.answers]
            for answer, over in zip(schedule.answers, done, strict=True):
                if over:
                    found[answer.key] = tuple(answer.ids)
            engine.release(schedule, done)
    return found


@pytest.mark.parametrize("kind", ["fast", "padded"])
def test_prompts_that_come_at_any_step_get_the_answers_they_get_alone(kind: str) -> None:
    policy = Policy(tiny_model(), layout="plain").eval()
    engine: Any = Engine(policy, 4, draw) if kind == "fast" else Batches(policy, draw)
    arrivals = [(tuple(prompt), key) for key, prompt in enumerate(MANY)]
    found = drive(engine, Schedule([], 4, 60), arrivals)
    expected = {key: alone(tiny_model(), prompt, key) for key, prompt in enumerate(MANY)}
    assert found == expected
    engine.rest()
    assert engine.bytes == 0


@pytest.mark.parametrize("kind", ["fast", "padded"])
def test_answers_under_adapters_are_those_of_the_merged_models(tmp_path: Path, kind: str) -> None:
    """The same prompts under the base and two adapters, side by side, sharing what they may."""
    folders = [save_adapter(tmp_path / "a", 1), save_adapter(tmp_path / "b", 2, ["q_proj"])]
    model = tiny_model()
    adapters = ManyAdapters(model, folders)
    policy = Policy(model, layout="plain").eval()
    models = [tiny_model(), *(merged(folder) for folder in folders)]
    arrivals, expected = [], {}
    for prompt in PROMPTS["shared"]:
        for which, one in enumerate(models):
            key = len(arrivals)
            arrivals.append((tuple(token + which * VOCABULARY for token in prompt), key))
            expected[key] = alone(one, prompt, key)
    assert len(set(expected.values())) == len(expected)
    if kind == "fast":
        engine: Any = Engine(policy, 5, draw, adapters=adapters)
        assert drive(engine, Schedule([], 5, 60), arrivals) == expected
        return
    batches: Any = Batches(policy, draw, adapters)
    found: dict[int, Any] = {}
    for which in range(3):  # a padded batch is of one adapter
        found |= drive(batches, Schedule([], 5, 60), arrivals[which::3])
    assert found == expected


def test_ids_tell_the_adapter() -> None:
    token, which = split_ids(np.array([5, 5 + 2 * 272, 271]), 272)
    assert (token.tolist(), which.tolist()) == ([5, 5, 271], [0, 2, 0])


def test_answers_that_nobody_wants_leave_no_trace() -> None:
    """Of three answers to one prompt two are dropped, one before it began."""
    engine: Any = Engine(Policy(tiny_model(), layout="plain").eval(), 2, draw)
    schedule: Schedule[int] = Schedule([], 2, 60)
    schedule.add(tuple(SHARED), [0, 1, 2])
    schedule.add(tuple(ids(5, 1)), [3])
    with torch.no_grad():
        engine.step(schedule, uniforms)
        assert [answer.key for answer in schedule.answers] == [0, 1]
        schedule.drop(lambda key: key in {1, 2})
        engine.release(schedule, [answer.key == 1 for answer in schedule.answers])
        engine.step(schedule, uniforms)
        assert [answer.key for answer in schedule.answers] == [0, 3]
        for _ in range(HOW.max_new_tokens - 2):
            engine.step(schedule, uniforms)
        assert tuple(schedule.answers[0].ids) == alone(tiny_model(), SHARED, 0)
        engine.release(schedule, [True, True])
    assert (schedule.answers, schedule.residents, schedule.queued) == ([], [], False)
    assert engine.bytes > 0
    engine.rest()
    assert engine.bytes == 0
