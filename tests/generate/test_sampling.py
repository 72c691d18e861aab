"""Sampling: greedy is transformers' own, draws follow the distribution and nothing else."""

from __future__ import annotations

import functools
import math
from collections import Counter

import pytest
import torch
from tests.tiny import VOCABULARY, tiny_model

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
