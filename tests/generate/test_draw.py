"""What is drawn from what: log-probs beside the tokens, mixtures, seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model

from palate.config import AdapterConfig
from palate.generate.draw import Mixture, Sampling, draw, pick
from palate.generate.sampling import Sample, sample
from palate.model.adapters import adapters_off, attach
from palate.model.policy import Policy
from palate.tokens.tree import Branch, build_forest

PROMPTS = [[7, 8, 9] * 9, [*[7, 8, 9] * 9, 4], [30], [41, 42]]
DRAWN = Sampling(max_new_tokens=9, temperature=1.0, top_k=0, seed=5)
LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
OTHER = torch.log(torch.tensor([[0.4, 0.1, 0.2, 0.3]]))


@functools.cache
def adapted() -> tuple[Policy, Mixture]:
    """A policy whose adapter says something, and the mixture with it off."""
    model = tiny_model()
    config = AdapterConfig(kind="lora", rank=2, alpha=8.0)
    inside = attach(model, config, seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return Policy(model).eval(), Mixture(1.0, partial(adapters_off, inside))


def trainers(
    policy: Policy, prompts: Sequence[list[int]], drawn: list[list[Sample]]
) -> list[float]:
    """The log-probs that the training engine gives the same answers."""
    branches = [
        Branch([*prompt, *answer.ids], [False] * len(prompt) + [True] * len(answer.ids))
        for prompt, answers in zip(prompts, drawn, strict=True)
        for answer in answers
    ]
    with torch.no_grad():
        found: list[float] = policy(build_forest(branches)).token_logps_N.tolist()
    return found


def flat(drawn: list[list[Sample]]) -> list[float]:
    return [logp for answers in drawn for answer in answers for logp in answer.logps]


@pytest.mark.parametrize(
    "drawn", [DRAWN, replace(DRAWN, temperature=0), replace(DRAWN, temperature=0.7, top_k=5)]
)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_log_probs_are_the_trainers_whatever_drew_the_token(family: str, drawn: Sampling) -> None:
    policy = Policy(tiny_model(family)).eval()
    found = sample(policy, PROMPTS, drawn, end_ids=range(40), n=3)
    assert flat(found) == pytest.approx(trainers(policy, PROMPTS, found), abs=1e-5)


def test_a_log_prob_is_of_the_whole_distribution_at_temperature_1() -> None:
    """Of .1, .4, .2, .3, the greedy token has log .4, though temperature 0 gives it all."""
    settings = Sampling(temperature=0.5, top_k=1)
    token, logp = pick([LOGITS], torch.tensor([0.5], dtype=torch.float64), settings)
    assert token.tolist() == [1]
    assert logp.tolist() == pytest.approx([np.log(0.4)], abs=1e-6)


@pytest.mark.parametrize(
    ("weight", "shares"),
    [
        # .1^¾ .4^¼ = .1·√2 and .4^¾ .1^¼ = .2·√2
        (0.25, [0.1 * 2**0.5, 0.2 * 2**0.5, 0.2, 0.3]),
        (0.5, [0.2, 0.2, 0.2, 0.3]),  # √(.1 · .4) = .2
        (1.0, [0.4, 0.1, 0.2, 0.3]),
    ],
)
def test_a_mixture_is_geometric(weight: float, shares: list[float]) -> None:
    settings, low = Sampling(temperature=1.0, top_k=0), 0.0
    for token, share in enumerate(shares):
        high = low + share / sum(shares)
        for uniform in (low + 1e-6, high - 1e-6):
            one = torch.tensor([uniform], dtype=torch.float64)
            found, logp = pick([LOGITS, OTHER], one, settings, weight)
            assert found.tolist() == [token]
            assert logp.tolist() == pytest.approx([float(LOGITS[0, token])], abs=1e-6)
        low = high


@pytest.mark.parametrize(
    ("top_p", "top_k", "bounds"),
    [
        # Of .1, .4, .2, .3: .4 alone is .4, with .3 it is .7, with .2 it is .9.
        (0.39, 0, [(1, 1.0)]),
        (0.41, 0, [(1, 4 / 7), (3, 1.0)]),
        (0.71, 0, [(1, 4 / 9), (2, 6 / 9), (3, 1.0)]),
        (0.0, 0, [(1, 1.0)]),
        # Among the two likeliest .4 is 4/7 = .571.
        (0.57, 2, [(1, 1.0)]),
        (0.58, 2, [(1, 4 / 7), (3, 1.0)]),
    ],
)
def test_the_nucleus_is_the_likeliest_tokens(
    top_p: float, top_k: int, bounds: list[tuple[int, float]]
) -> None:
    settings, low = Sampling(temperature=1.0, top_k=top_k, top_p=top_p), 0.0
    for token, high in bounds:
        for uniform in (low + 1e-6, high - 1e-6):
            drawn = draw(LOGITS, torch.tensor([uniform], dtype=torch.float64), settings)
            assert drawn.tolist() == [token]
        low = high


def test_a_nucleus_wider_than_what_is_looked_at_first() -> None:
    """Shares fall by a thousandth from token to token: 1024 tokens hold half, but not .9."""
    logits = torch.arange(4000.0)[None] * -1e-3
    share = torch.softmax(logits.double(), -1)[0]
    for top_p in (0.5, 0.9):
        inside = int((share.cumsum(0) - share < top_p).sum())  # already in order of likelihood
        settings = Sampling(temperature=1.0, top_k=0, top_p=top_p)
        last = draw(logits, torch.tensor([1 - 1e-9], dtype=torch.float64), settings)
        assert last.tolist() == [inside - 1]
        assert (inside > 1024) == (top_p == 0.9)


@pytest.mark.parametrize(
    ("temperature", "top_k", "bounds"),
    [
        (1.0, 0, [(0, 0.1), (1, 0.5), (2, 0.7), (3, 1.0)]),
        (1.0, 9, [(0, 0.1), (1, 0.5), (2, 0.7), (3, 1.0)]),
        # Of the two likeliest: .4/.7 and .3/.7.
        (1.0, 2, [(1, 4 / 7), (3, 1.0)]),
        # Temperature ½ squares the shares: .01, .16, .04, .09 of .30.
        (0.5, 0, [(0, 1 / 30), (1, 17 / 30), (2, 21 / 30), (3, 1.0)]),
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
            found = draw(LOGITS, torch.tensor([uniform], dtype=torch.float64), settings)
            assert found.tolist() == [token]
        low = high
    nearly_one = torch.tensor([np.nextafter(1.0, 0.0)])
    assert draw(LOGITS, nearly_one, settings).tolist() == [bounds[-1][0]]


def test_greedy_takes_the_likeliest_whatever_is_drawn() -> None:
    rows = torch.cat([LOGITS, LOGITS.flip(1)])
    uniform = torch.tensor([0.99, 0.01], dtype=torch.float64)
    assert draw(rows, uniform, Sampling(temperature=0)).tolist() == [1, 2]


def test_a_draw_among_many_tokens_is_the_plain_inverse() -> None:
    """1,000 tokens are several blocks and an incomplete one."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(40, 1000, generator=generator)
    uniform = torch.rand(40, generator=generator, dtype=torch.float64)
    found = draw(logits, uniform, Sampling(temperature=1.3, top_k=0))
    running = (logits.double() / 1.3).softmax(-1).cumsum(-1).numpy()
    for row in range(40):
        plain = int(np.searchsorted(running[row], float(uniform[row]), side="right"))
        assert found[row] == plain
    assert len(set((found // 128).tolist())) > 4


@pytest.mark.parametrize("top_k", [0, 300])
def test_what_cannot_be_drawn_is_not_drawn(top_k: int) -> None:
    """Also where the uniform number is 0, or rounds to 1."""
    logits = torch.full((1, 500), float("-inf"))
    logits[0, [140, 200, 390]] = torch.tensor([0.0, 1.0, 2.0])
    for uniform, token in ((0.0, 140), (float(np.nextafter(1.0, 0.0)), 390)):
        one = torch.tensor([uniform], dtype=torch.float64)
        assert draw(logits, one, Sampling(temperature=1.0, top_k=top_k)).tolist() == [token]


def test_equally_likely_tokens_keep_their_places() -> None:
    """Rounding that makes one of two equal tokens the likelier changes no draw."""
    one = torch.tensor([0.3], dtype=torch.float64)
    settings = Sampling(temperature=1.0, top_k=2)
    for nudge in (1e-7, 0.0, -1e-7):
        assert draw(torch.tensor([[1.0 + nudge, -9.0, 1.0]]), one, settings).tolist() == [0]


def test_a_mixture_without_weight_is_the_policy_and_one_of_weight_1_the_other() -> None:
    policy, mixture = adapted()
    run = partial(sample, policy, PROMPTS, DRAWN, end_ids=range(40), n=3)
    own = run()
    assert run(mixture=replace(mixture, weight=0.0)) == own
    with mixture.other():
        others = run()
    drawn = run(mixture=mixture)
    ids = [[[a.ids for a in answers] for answers in each] for each in (own, others, drawn)]
    assert ids[0] != ids[1]
    assert ids[1] == ids[2]
    assert flat(drawn) == pytest.approx(trainers(policy, PROMPTS, drawn), abs=1e-5)
    assert flat(drawn) != pytest.approx(flat(others), abs=1e-2)


def test_a_mixture_of_both_is_neither() -> None:
    """Greedy tokens of the mixture are the largest of (1 − w) log π + w log π_other."""
    policy, mixture = adapted()
    half, greedy = replace(mixture, weight=0.5), replace(DRAWN, temperature=0)
    found = sample(policy, PROMPTS, greedy, end_ids=[-1], mixture=half)
    for prompt, (answer,) in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([[*prompt, *answer.ids]])
        with torch.no_grad():
            ours = policy.model(ids).logits[0]
            with mixture.other():
                theirs = policy.model(ids).logits[0]
        best = (ours + theirs).argmax(-1)[len(prompt) - 1 : -1]
        assert answer.ids == tuple(best.tolist())


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_outside_0_and_1_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Mixture(weight, adapted()[1].other)


def test_a_seed_of_several_numbers_is_a_stream_of_its_own() -> None:
    one = Sampling(max_new_tokens=3, seed=4)
    assert one.uniforms(2, 1).tolist() == np.random.default_rng([4, 2, 1]).random(3).tolist()
    assert replace(one, seed=(4,)).uniforms(2, 1).tolist() == one.uniforms(2, 1).tolist()
    two = replace(one, seed=(4, 9)).uniforms(2, 1)
    assert two.tolist() == np.random.default_rng([4, 9, 2, 1]).random(3).tolist()
    assert two.tolist() != one.uniforms(2, 1).tolist()


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-40, 9e-6])
@pytest.mark.parametrize("top_k", [0, 2])
def test_a_tiny_temperature_is_greedy(temperature: float, top_k: int) -> None:
    """Logits divided by it would be infinite, and their softmax not a number."""
    found = draw(40 * LOGITS, torch.tensor([0.99]), Sampling(temperature=temperature, top_k=top_k))
    assert found.tolist() == [1]
