"""The padded path, for models that the fast engine cannot serve."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tests.families import build
from tests.generate.test_draw import adapted, flat, trainers
from tests.generate.test_sampling import FAMILIES, GREEDY, PROMPTS, generated, ids, only_ids, policy

import palate.generate.padded as padded_room
from palate.generate.draw import Sample, Sampling
from palate.generate.padded import padded
from palate.model.policy import Policy

DRAWN = Sampling(max_new_tokens=10, temperature=1.0, top_k=20, seed=3)


def run(
    one: Policy,
    prompts: list[list[int]],
    sampling: Sampling,
    *,
    n: int = 1,
    batch_size: int = 64,
    end_ids: Any = (-1,),
    mixture: Any = None,
) -> list[list[Sample]]:
    with torch.no_grad():
        return padded(
            one,
            prompts,
            sampling,
            end_ids=end_ids,
            n=n,
            batch_size=batch_size,
            advance=lambda count: None,
            mixture=mixture,
        )


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_what_transformers_generates(family: str, kind: str) -> None:
    found = run(policy(family), PROMPTS[kind], GREEDY)
    for prompt, answers in zip(PROMPTS[kind], found, strict=True):
        assert list(answers[0].ids) == generated(family, prompt, 12, None)


def test_the_shared_beginning_goes_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[tuple[int, ...]] = []
    forward = padded_room.forward

    def counted(policy: Policy, tokens: Any, *rest: Any) -> Any:
        widths.append(tuple(tokens.shape))
        return forward(policy, tokens, *rest)

    monkeypatch.setattr(padded_room, "forward", counted)
    one = Sampling(max_new_tokens=1, temperature=0)
    run(policy(), PROMPTS["shared"], one)
    assert widths == [(1, 40), (4, 12)]
    widths.clear()
    run(policy(), PROMPTS["different"], one)
    assert widths == [(4, 17)]
    widths.clear()
    run(policy(), PROMPTS["equal"], one)  # the last token is each row's own
    assert widths == [(1, 39), (2, 1)]


def test_draws_depend_on_no_batch_and_no_neighbour() -> None:
    prompts = PROMPTS["shared"] + PROMPTS["different"]
    whole = run(policy(), prompts, DRAWN, end_ids=range(60), n=3)
    assert [len(answers) for answers in whole] == [3] * len(prompts)
    for batch_size in (1, 4, 7):
        again = run(policy(), prompts, DRAWN, end_ids=range(60), n=3, batch_size=batch_size)
        assert only_ids(again) == only_ids(whole)


def test_log_probs_are_the_trainers_also_with_a_mixture() -> None:
    one, mixture = adapted()
    prompts = PROMPTS["shared"]
    own = run(one, prompts, DRAWN, n=2)
    assert flat(own) == pytest.approx(trainers(one, prompts, own), abs=1e-5)
    with mixture.other():
        others = run(one, prompts, DRAWN, n=2)
    mixed = run(one, prompts, DRAWN, n=2, mixture=mixture)
    assert only_ids(mixed) == only_ids(others)
    assert only_ids(mixed) != only_ids(own)
    assert flat(mixed) == pytest.approx(trainers(one, prompts, mixed), abs=1e-5)


def test_a_sliding_window_shorter_than_the_text() -> None:
    """Mistral with a window of 6: every token equals the model's own without a cache."""
    shape = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "sliding_window": 6,
    }
    model = build("mistral", shape)
    prompts = [[i % 60 for i in ids(count, count)] for count in (20, 4, 11)]
    found = run(Policy(model), prompts, GREEDY)
    own = partial(model, use_cache=False)
    for prompt, (answer,) in zip(prompts, found, strict=True):
        with torch.no_grad():
            best = own(torch.tensor([[*prompt, *answer.ids]])).logits[0].argmax(-1)
        assert list(answer.ids) == best[len(prompt) - 1 : -1].tolist()
