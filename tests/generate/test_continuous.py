"""The fast engine: equal to the padded path and to the trainer, whatever the batch."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import families
from tests.generate.test_draw import adapted, flat, trainers
from tests.generate.test_padded import run as padded
from tests.generate.test_sampling import PROMPTS, SHARED, ids, only_ids, policy

from palate.generate.choice import why_padded
from palate.generate.continuous import continuous
from palate.generate.decoder import Decoder
from palate.generate.draw import Sample, Sampling
from palate.model.policy import Policy

DRAWN = Sampling(max_new_tokens=12, temperature=1.0, top_k=0, seed=3)
ENDS = range(60)  # answers end early, and not together
MANY = PROMPTS["shared"] + PROMPTS["different"] + PROMPTS["equal"] + [ids(70, 6)]


def run(
    one: Policy,
    prompts: list[list[int]],
    sampling: Sampling = DRAWN,
    *,
    n: int = 3,
    batch_size: int = 64,
    end_ids: Any = ENDS,
    **more: Any,
) -> list[list[Sample]]:
    more = {"advance": lambda count: None, "mixture": None, **more}
    with torch.no_grad():
        return continuous(
            one, prompts, sampling, end_ids=end_ids, n=n, batch_size=batch_size, **more
        )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_draws_are_those_of_the_padded_path_at_any_batch_size(family: str) -> None:
    one = policy(family)
    expected = padded(one, MANY, DRAWN, n=3, end_ids=ENDS)
    assert len({len(answer.ids) for answers in expected for answer in answers}) > 5
    for batch_size in (1, 4, 7, 64):
        found = run(one, MANY, batch_size=batch_size)
        assert only_ids(found) == only_ids(expected)
        assert [a.finished for row in found for a in row] == [
            a.finished for row in expected for a in row
        ]
        assert flat(found) == pytest.approx(flat(expected), abs=1e-5)


def test_a_seed_and_a_batch_give_the_same_bits_again() -> None:
    assert run(policy(), MANY, batch_size=5) == run(policy(), MANY, batch_size=5)


def _shape(family: str, seed: int) -> dict[str, Any]:
    """A random shape whose windows, if any, cut nothing."""
    shape = families._random_shape(family, random.Random(f"{family} {seed}"))
    return {**shape, "sliding_window": 500} if "sliding_window" in shape else shape


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_of_the_tree_is_served_exactly(family: str) -> None:
    model = families.build(family, _shape(family, 1), 1)
    one = Policy(model).eval()
    assert why_padded(one, 100) is None
    prompts = [[token % families.VOCABULARY for token in prompt] for prompt in MANY]
    found = run(one, prompts, n=2, batch_size=5, end_ids=range(8))
    expected = padded(one, prompts, DRAWN, n=2, end_ids=range(8))
    assert only_ids(found) == only_ids(expected)
    assert flat(found) == pytest.approx(trainers(one, prompts, found), abs=1e-5)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each forward, the answers' tokens and the prompts' tokens that it computes."""
    seen: list[tuple[int, int]] = []
    forward = Decoder.forward

    def counted(self: Decoder, running: Any, incoming: Any) -> Any:
        sizes = (
            0 if running is None else len(running.ids_B),
            0 if incoming is None else len(incoming.ids_F),
        )
        seen.append(sizes)
        return forward(self, running, incoming)

    monkeypatch.setattr(Decoder, "forward", counted)
    return seen


def test_a_prompt_goes_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four prompts of 41, 47, 43 and 52 tokens that share 40, eight answers of three tokens."""
    seen = _counted(monkeypatch)
    three = replace(DRAWN, max_new_tokens=3)
    run(policy(), PROMPTS["shared"], three, n=8, end_ids=[-1])
    assert seen == [(0, 40 + 1 + 7 + 3 + 12), (32, 0), (32, 0)]
    seen.clear()
    run(policy(), PROMPTS["equal"], three, n=2, end_ids=[-1])
    assert seen == [(0, 40), (4, 0), (4, 0)]


def test_rows_that_are_free_are_filled_and_beginnings_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two rows, prompts of 41, 43, 47 and 52 tokens that share 40, two answers of two tokens."""
    seen = _counted(monkeypatch)
    two = replace(DRAWN, max_new_tokens=2)
    run(policy(), PROMPTS["shared"], two, n=2, batch_size=2, end_ids=[-1])
    assert seen == [(0, 41), (2, 0), (0, 3), (2, 0), (0, 7), (2, 0), (0, 12), (2, 0)]
    seen.clear()
    run(policy(), PROMPTS["shared"], two, n=1, batch_size=3, end_ids=[-1])
    assert seen == [(0, 40 + 1 + 3 + 7), (3, 0), (0, 12), (1, 0)]


def test_a_prompt_that_begins_another_is_answered_from_its_own_last_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = _counted(monkeypatch)
    prompts = [[*SHARED, *ids(20, 9)], [*SHARED, *ids(9, 9)], SHARED]
    for batch_size in (1, 64):
        found = run(policy(), prompts, batch_size=batch_size)
        assert only_ids(found) == only_ids(padded(policy(), prompts, DRAWN, n=3, end_ids=ENDS))
    assert seen


def test_answers_and_prompts_come_in_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _counted(monkeypatch)
    found = run(policy(), MANY, batch_size=4)
    assert any(answers and prompts for answers, prompts in seen)
    assert max(answers for answers, _ in seen) <= 4
    assert only_ids(found) == only_ids(run(policy(), MANY))


def test_a_mixture_keeps_the_policys_log_probs() -> None:
    one, mixture = adapted()
    half = replace(mixture, weight=0.5)
    found = run(one, MANY, mixture=half, batch_size=6)
    expected = padded(one, MANY, DRAWN, n=3, end_ids=ENDS, mixture=half)
    assert only_ids(found) == only_ids(expected)
    assert only_ids(found) != only_ids(run(one, MANY))
    assert flat(found) == pytest.approx(trainers(one, MANY, found), abs=1e-5)


def test_bf16_stays_near_the_trainer() -> None:
    """Means of bf16 log-probs; the same products round the same inputs."""
    one = policy("llama", "bf16")
    found = run(one, MANY, batch_size=8)
    theirs = trainers(one, MANY, found)
    differences = [abs(a - b) for a, b in zip(flat(found), theirs, strict=True)]
    assert sum(differences) / len(differences) < 0.02
    assert len(differences) > 100


def test_the_model_is_left_as_others_expect_it() -> None:
    one = policy()
    run(one, MANY[:1])
    assert one.model.config._attn_implementation == one.plain_attention
    assert torch.isfinite(one.model(torch.tensor([[1, 2]])).logits).all()


def test_progress_counts_every_answer() -> None:
    counts: list[int] = []
    run(policy(), MANY, batch_size=4, advance=counts.append)
    assert sum(counts) == 3 * len(MANY)
    assert len(counts) > 5


def test_a_failure_leaves_no_attention_behind() -> None:
    def fail(count: int) -> None:
        raise KeyboardInterrupt

    one = policy()
    with pytest.raises(KeyboardInterrupt):
        run(one, MANY, advance=fail)
    assert one.model.config._attn_implementation == one.plain_attention
