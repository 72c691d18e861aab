"""Which engine samples from a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.families import build
from tests.tiny import tiny_model

import palate.generate.sampling as sampling_room
from palate.generate import choice
from palate.generate.choice import why_padded
from palate.generate.draw import Sampling
from palate.generate.sampling import sample
from palate.model.policy import Policy

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def test_a_window_matters_only_where_it_cuts() -> None:
    one = Policy(build("mistral", {**SHAPE, "sliding_window": 40})).eval()
    assert why_padded(one, 40) is None
    assert why_padded(one, 41) == "a sliding window of 40 tokens, for texts of up to 41"


def test_the_longest_text_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name in ("continuous", "padded"):

        def engine(*args: Any, _name: str = name, **kwargs: Any) -> list[Any]:
            used.append(_name)
            return []

        monkeypatch.setattr(sampling_room, name, engine)
    one = Policy(build("mistral", {**SHAPE, "sliding_window": 40})).eval()
    sample(one, [[1] * 30, [2]], Sampling(10), end_ids=[0])
    sample(one, [[1] * 31, [2]], Sampling(10), end_ids=[0])
    assert used == ["continuous", "padded"]


def test_positions_that_depend_on_the_batch_are_not_served() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    one = Policy(build("llama", {**SHAPE, "rope_parameters": rope})).eval()
    assert "dynamic position scaling" in str(why_padded(one, 40))


def test_an_engine_that_is_off_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Policy(tiny_model()).eval()
    real = choice.continuous

    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        found[0][0] = type(found[0][0])(found[0][0].ids, False, (0.0,) * len(found[0][0].ids))
        return found

    monkeypatch.setattr(choice, "continuous", wrong)
    assert "log-probs differ by" in str(why_padded(one, 40))


def test_an_engine_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose layers do not pass on what the step needs."""
    model = tiny_model()
    forward = model.model.layers[1].self_attn.forward

    def deaf(*args: Any, attend: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model.layers[1].self_attn, "forward", deaf)
    one = Policy(model).eval()
    assert "the fast engine failed on this model: AssertionError" in str(why_padded(one, 40))
    found = sample(one, [[1, 2, 3]], Sampling(4, temperature=0), end_ids=[-1])
    with torch.no_grad():
        assert found[0][0].ids[0] == int(model(torch.tensor([[1, 2, 3]])).logits[0, -1].argmax())


def test_the_proof_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Policy(tiny_model()).eval()
    assert why_padded(one, 40) is None
    monkeypatch.setattr(choice, "continuous", None)
    assert why_padded(one, 40) is None
