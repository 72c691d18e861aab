"""One answer alone: the same tokens and log-probs, also when others come and go between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.generate.test_draw import flat
from tests.generate.test_padded import run as padded
from tests.generate.test_sampling import ids
from tests.tiny import tiny_model

from palate.generate.alone import Alone
from palate.generate.continuous import continuous
from palate.generate.draw import Sampling
from palate.generate.engine import Engine
from palate.generate.schedule import Schedule
from palate.model.policy import Policy

LONG = Sampling(max_new_tokens=150, temperature=1.0, top_k=0, seed=3)  # past a buffer's room


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers that were computed alone, as they were."""
    seen: list[int] = []
    attend = Alone.attend

    def counted(self: Alone, layer: int, *more: Any) -> Any:
        seen.append(layer)
        return attend(self, layer, *more)

    monkeypatch.setattr(Alone, "attend", counted)
    return seen


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_an_answer_alone_is_what_the_padded_path_gives(family: str, layers: list[int]) -> None:
    one = Policy(tiny_model(family)).eval()
    more: dict[str, Any] = {"advance": lambda count: None, "mixture": None}
    with torch.no_grad():
        found = continuous(one, [ids(9, 1)], LONG, end_ids=[-1], n=1, batch_size=4, **more)
    expected = padded(one, [ids(9, 1)], LONG, n=1, end_ids=[-1])
    assert [a.ids for row in found for a in row] == [a.ids for row in expected for a in row]
    assert flat(found) == pytest.approx(flat(expected), abs=1e-4)
    assert layers == [0, 1] * 149  # the first token comes from the prompt's own forward


def test_others_may_come_and_go_between(layers: list[int]) -> None:
    """Alone for 20 tokens, with another for 10, alone again: as if it had been alone throughout."""
    policy = Policy(tiny_model()).eval()

    def tokens(visits: bool) -> list[int]:
        def draw(answers: Any, logits: list[torch.Tensor]) -> None:
            for answer, token in zip(answers, logits[0].argmax(-1).tolist(), strict=True):
                answer.ids.append(token)

        engine: Engine[int] = Engine(policy, 4, draw)
        schedule: Schedule[int] = Schedule([(tuple(ids(9, 1)), [0])], 4, 100)
        with torch.no_grad():
            for step in range(60):
                if visits and step == 20:
                    schedule.add(tuple(ids(30, 2)), [1])
                engine.step(schedule, lambda key: LONG.uniforms(0, key))
                if visits and step == 30:
                    engine.release(schedule, [False, True])
        found = schedule.answers[0].ids
        engine.rest()
        assert engine.bytes == 0
        return found

    assert tokens(visits=True) == tokens(visits=False)
    # 59 steps after the first, less the one that brings a prompt and the ten beside another.
    assert len(layers) == 2 * (59 + 59 - 11)
