"""Sampling: greedy is transformers' own, draws follow the distribution and nothing else."""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import VOCABULARY, tiny_model

import palate.generate.padded as padded_room
from palate.generate.cache import RoomyCache, RoomyLayer
from palate.generate.draw import draw
from palate.generate.sampling import Sample, Sampling, sample
from palate.model.policy import Policy

FAMILIES = ("llama", "qwen3", "gpt2")
GREEDY = Sampling(max_new_tokens=12, temperature=0)


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


SHARED = ids(40, 0)
PROMPTS = {
    "different": [ids(3, 1), ids(17, 2), ids(9, 3), ids(1, 4)],
    "shared": [[*SHARED, *ids(count, 10 + count)] for count in (1, 7, 3, 12)],
    "one begins the others": [SHARED, [*SHARED, *ids(5, 9)], [*SHARED, *ids(2, 8)]],
    "equal": [SHARED, SHARED],
    "one": [SHARED],
}


@functools.cache
def policy(family: str = "llama", precision: str = "fp32") -> Policy:
    return Policy(tiny_model(family), precision=precision).eval()  # type: ignore[arg-type]


def generated(family: str, prompt: list[int], new: int, end: int | None) -> list[int]:
    """transformers' own greedy answer to one prompt, without padding."""
    model = tiny_model(family)
    model.generation_config.eos_token_id = end
    found = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    return found[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def only_ids(found: list[list[Sample]]) -> list[list[tuple[int, ...]]]:
    return [[answer.ids for answer in answers] for answers in found]


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_what_transformers_generates(family: str, kind: str) -> None:
    found = sample(policy(family), PROMPTS[kind], GREEDY, end_ids=[-1])
    for prompt, answers in zip(PROMPTS[kind], found, strict=True):
        assert list(answers[0].ids) == generated(family, prompt, 12, None)
        assert not answers[0].finished


def test_the_shared_beginning_goes_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[tuple[int, ...]] = []
    forward = padded_room.forward

    def counted(policy: Policy, tokens: Any, *rest: Any) -> Any:
        widths.append(tuple(tokens.shape))
        return forward(policy, tokens, *rest)

    monkeypatch.setattr(padded_room, "forward", counted)
    one = Sampling(max_new_tokens=1, temperature=0)
    sample(policy(), PROMPTS["shared"], one, end_ids=[-1])
    assert widths == [(1, 40), (4, 12)]
    widths.clear()
    sample(policy(), PROMPTS["different"], one, end_ids=[-1])
    assert widths == [(4, 17)]
    widths.clear()
    sample(policy(), PROMPTS["equal"], one, end_ids=[-1])  # the last token is each row's own
    assert widths == [(1, 39), (2, 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_end_token_ends_its_answer_and_no_other(family: str) -> None:
    prompts = PROMPTS["shared"]
    whole = [generated(family, prompt, 12, None) for prompt in prompts]
    end = whole[0][4]
    found = [answers[0] for answers in sample(policy(family), prompts, GREEDY, end_ids=[end])]
    for answer, full in zip(found, whole, strict=True):
        cut = full.index(end) + 1 if end in full else len(full)
        assert list(answer.ids) == full[:cut]
        assert answer.finished == (end in full)
    assert found[0].finished


def test_any_of_several_end_tokens_ends_an_answer() -> None:
    full = generated("llama", SHARED, 12, None)
    first = min(full.index(token) for token in (full[3], full[6]))
    answer = sample(policy(), [SHARED], GREEDY, end_ids=[full[6], full[3]])[0][0]
    assert list(answer.ids) == full[: first + 1]


def test_an_end_at_the_last_token_counts_as_finished() -> None:
    full = generated("llama", SHARED, 12, None)
    length = full.index(full[5]) + 1
    limited = Sampling(max_new_tokens=length, temperature=0)
    answer = sample(policy(), [SHARED], limited, end_ids=[full[5]])[0][0]
    assert (answer.ids, answer.finished) == (tuple(full[:length]), True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_draws_depend_on_no_batch_and_no_neighbour(precision: str) -> None:
    drawn = Sampling(max_new_tokens=10, temperature=1.0, top_k=20, seed=3)
    prompts = PROMPTS["shared"] + PROMPTS["different"]
    one, ends = policy("llama", precision), range(60)  # answers end early, and not together
    whole = sample(one, prompts, drawn, end_ids=ends, n=3)
    assert [len(answers) for answers in whole] == [3] * len(prompts)
    assert len({len(answer.ids) for answers in whole for answer in answers}) > 3
    if precision == "fp32":  # in bf16 the width of a batch changes the last bits of a logit
        for batch_size in (1, 4, 7):
            again = sample(one, prompts, drawn, end_ids=ends, n=3, batch_size=batch_size)
            assert only_ids(again) == only_ids(whole)
        others = [prompts[0], ids(4, 50), ids(30, 51), prompts[3]]
        mixed = sample(one, others, drawn, end_ids=ends, n=2)
        assert only_ids([mixed[0], mixed[3]]) == only_ids([whole[0][:2], whole[3][:2]])
    assert sample(one, prompts, drawn, end_ids=ends, n=3) == whole


def test_answers_differ_by_seed_by_number_and_by_prompt() -> None:
    def answers(seed: int) -> list[list[Sample]]:
        drawn = Sampling(max_new_tokens=10, temperature=1.0, top_k=0, seed=seed)
        return sample(policy(), [SHARED, SHARED], drawn, end_ids=[-1], n=2)

    first = answers(0)
    assert answers(0) == first
    assert answers(1) != first
    assert len({answer.ids for row in first for answer in row}) == 4


def test_limits() -> None:
    drawn = Sampling(max_new_tokens=7, temperature=1.0)
    found = sample(policy(), PROMPTS["different"], drawn, end_ids=[-1], n=2)
    assert {len(a.ids) for answers in found for a in answers} == {7}
    assert all(0 <= t < VOCABULARY for answers in found for a in answers for t in a.ids)
    assert sample(policy(), [], drawn, end_ids=[-1]) == []
    with pytest.raises(ValueError, match="at least one token"):
        sample(policy(), [[1], []], drawn, end_ids=[-1])


def test_answers_end_where_the_models_positions_end() -> None:
    """GPT-2 has learned positions for 1,024 tokens; the longest prompt leaves room for three."""
    prompts = [ids(1021, 1), ids(1015, 2)]
    found = sample(policy("gpt2"), prompts, GREEDY, end_ids=[-1])
    assert [len(answers[0].ids) for answers in found] == [3, 9]
    assert not any(answers[0].finished for answers in found)


def test_progress_counts_answers() -> None:
    seen: list[int] = []
    drawn = Sampling(max_new_tokens=2)
    sample(policy(), [[1], [2], [3]], drawn, end_ids=[-1], n=2, batch_size=4, advance=seen.append)
    assert seen == [4, 2]


LOGITS = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("temperature", "top_k", "bounds"),
    [
        # Likeliest first: tokens 1, 3, 2, 0 with shares .4, .3, .2, .1.
        (1.0, 0, [(1, 0.4), (3, 0.7), (2, 0.9), (0, 1.0)]),
        (1.0, 9, [(1, 0.4), (3, 0.7), (2, 0.9), (0, 1.0)]),
        # Of the two likeliest: .4/.7 and .3/.7.
        (1.0, 2, [(1, 4 / 7), (3, 1.0)]),
        # Temperature ½ squares the shares: .16, .09, .04, .01 of .30.
        (0.5, 0, [(1, 16 / 30), (3, 25 / 30), (2, 29 / 30), (0, 1.0)]),
        (1.0, 1, [(1, 1.0)]),
    ],
)
def test_a_draw_inverts_the_cumulative_distribution(
    temperature: float, top_k: int, bounds: list[tuple[int, float]]
) -> None:
    settings = Sampling(temperature=temperature, top_k=top_k)
    low = 0.0
    for token, high in bounds:
        for uniform in (low + 1e-6, (low + high) / 2, high - 1e-6):
            found = draw(LOGITS[None], torch.tensor([uniform], dtype=torch.float64), settings)
            assert found.tolist() == [token]
        low = high
    nearly_one = torch.tensor([np.nextafter(1.0, 0.0)])
    assert draw(LOGITS[None], nearly_one, settings).tolist() == [bounds[-1][0]]


def test_greedy_takes_the_likeliest_whatever_is_drawn() -> None:
    rows = torch.stack([LOGITS, LOGITS.flip(0)])
    uniform = torch.tensor([0.99, 0.01], dtype=torch.float64)
    assert draw(rows, uniform, Sampling(temperature=0)).tolist() == [1, 2]


def test_frequencies_are_the_models_own() -> None:
    """χ² of 4,000 first tokens among the 8 likeliest: 7 degrees of freedom, 24.3 at p = 0.001."""
    prompt, count, temperature = SHARED[:5], 4000, 1.7
    drawn = Sampling(max_new_tokens=1, temperature=temperature, top_k=8, seed=1)
    found = sample(policy(), [prompt], drawn, end_ids=[-1], n=count)[0]
    counts = Counter(answer.ids[0] for answer in found)
    with torch.no_grad():
        logits = tiny_model()(torch.tensor([prompt])).logits[0, -1].double()
    top, tokens = logits.topk(8)
    weights = [math.exp(value / temperature) for value in (top - top[0]).tolist()]
    expected = {
        token: count * weight / sum(weights)
        for token, weight in zip(tokens.tolist(), weights, strict=True)
    }
    assert set(counts) <= set(expected)
    assert min(expected.values()) > 5
    assert sum((counts[t] - e) ** 2 / e for t, e in expected.items()) < 24.3


def _states(length: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, length, 4, generator=torch.Generator().manual_seed(seed))


def test_the_cache_gives_back_all_it_was_given() -> None:
    """Across the first room of 64 positions, and past it."""
    layer = RoomyLayer()
    parts = [_states(length, seed=k) for k, length in enumerate((5, 1, 1, 70, 1, 64, 3))]
    for count, part in enumerate(parts, 1):
        keys, values = layer.update(part, -part)
        expected = torch.cat(parts[:count], dim=2)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)
        assert layer.get_seq_length() == expected.shape[2]


def test_the_cache_has_room_so_that_a_step_copies_nothing() -> None:
    layer = RoomyLayer()
    layer.update(_states(5), _states(5))
    place = layer.keys.data_ptr()
    for _ in range(64):
        layer.update(_states(1), _states(1))
    assert layer.keys.data_ptr() == place
    layer.update(_states(1), _states(1))
    assert layer.keys.data_ptr() != place


def test_rows_of_the_cache_are_kept_dropped_and_repeated() -> None:
    cache = RoomyCache()
    first, second = _states(4, seed=1), _states(4, seed=2)
    cache.update(first, -first, 0)
    cache.update(second, -second, 1)
    cache.rows(torch.tensor([1, 1, 0]))
    more = _states(1, batch=3, seed=3)
    for layer, states in enumerate((first, second)):
        keys, values = cache.update(more, -more, layer)
        expected = torch.cat([states[[1, 1, 0]], more], dim=2)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)
