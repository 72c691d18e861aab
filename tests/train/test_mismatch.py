"""Mismatched examples: never one's own prompt, drawn from the data and never from a micro-batch."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import VOCABULARY, tiny_model
from torch import Tensor

from palate.losses.kto import KTO
from palate.losses.registry import METHODS
from palate.model.policy import Policy
from palate.model.score import score
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.mismatch import derange, join, mismatched, mismatched_with
from palate.train.reference import LiveReference
from palate.train.shapes import MicroBatch
from palate.train.step import Packed, StepResult, compute_step, pack

CPU = torch.device("cpu")
NAMES = st.lists(st.integers(0, 6), min_size=2, max_size=40).filter(
    lambda names: 2 * max(Counter(names).values()) <= len(names)
)


@given(names=NAMES, seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_a_permutation_that_gives_nobody_their_own(names: list[int], seed: int, epoch: int) -> None:
    found = derange(names, seed, epoch)
    assert sorted(found) == list(range(len(names)))
    assert all(names[index] != names[other] for index, other in enumerate(found))
    assert derange(names, seed, epoch) == found


def test_each_epoch_and_each_seed_draws_anew() -> None:
    names = list(range(12))
    drawn = [tuple(derange(names, seed, epoch)) for seed in (0, 1) for epoch in range(4)]
    assert len(set(drawn)) == 8


def test_every_other_prompt_may_come() -> None:
    """Over many epochs, the completion of each of the others is met."""
    names = [0, 0, 1, 2, 3]
    partners = {derange(names, 0, epoch)[0] for epoch in range(60)}
    assert partners == {2, 3, 4}


@pytest.mark.parametrize("names", [[1, 1, 1, 2, 3], [1], [1, 1]])
def test_more_than_half_of_one_prompt_is_refused(names: list[int]) -> None:
    largest = max(Counter(names).values())
    said = f"{largest} of {len(names)} examples have the same prompt.*use more prompts"
    with pytest.raises(ValueError, match=said):
        derange(names, 0, 0)
    assert derange([1, 1, 2, 3], 0, 0)


# --- examples ---------------------------------------------------------------------------


def tokens(count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=draw).tolist()


def thumb(index: int) -> Rendered:
    """Six prompts under one beginning, some of them twice; answers of 2 to 7 tokens."""
    prompt = [*tokens(8, 7), *tokens(2 + index % 6, 100 + index % 6)]
    answer = tokens(2 + index % 6, 200 + index)
    mask = [False] * len(prompt) + [True] * len(answer)
    return Rendered(
        str(index), len(prompt), (Branch([*prompt, *answer], mask),), desirable=index % 3 != 0
    )


EIGHT = [thumb(i) for i in range(8)]


def own_answer(one: Rendered) -> list[int]:
    return list(one.branches[0].ids[one.prompt_length :])


def test_each_prompt_gets_the_whole_answer_of_another() -> None:
    found = mismatched(EIGHT, 3, 0)
    answers = [tuple(own_answer(one)) for one in EIGHT]
    limit = max(len(one.branches[0].ids) for one in EIGHT)
    taken = []
    for own, other in zip(EIGHT, found, strict=True):
        assert list(other.prompt_ids) == list(own.prompt_ids)
        assert other.desirable == own.desirable
        assert other.example_id == own.example_id
        (branch,) = other.branches
        assert list(branch.mask) == [t >= own.prompt_length for t in range(len(branch.ids))]
        (source,) = [i for i, a in enumerate(answers) if a[:2] == tuple(own_answer(other))[:2]]
        assert list(EIGHT[source].prompt_ids) != list(own.prompt_ids)
        room = limit - own.prompt_length
        assert own_answer(other) == list(answers[source])[:room]
        taken.append(source)
    assert sorted(taken) == list(range(8)), "every answer is used once"
    assert [one.branches for one in mismatched(EIGHT, 3, 0)] == [one.branches for one in found]
    assert [one.branches for one in mismatched(EIGHT, 3, 1)] != [one.branches for one in found]


def test_what_would_be_longer_than_the_longest_is_cut() -> None:
    short = Rendered("a", 6, (Branch([1, 2, 3, 4, 5, 6, 7], [False] * 6 + [True]),))
    long = Rendered("b", 2, (Branch([8, 9, 10, 11, 12, 13], [False] * 2 + [True] * 4),))
    (first, second) = mismatched([short, long], 0, 0)
    assert first.branches == (Branch([1, 2, 3, 4, 5, 6, 10], [False] * 6 + [True]),)
    assert second.branches == (Branch([8, 9, 7], [False, False, True]),)


def test_turns_of_the_user_inside_an_answer_stay_untrained() -> None:
    own = Rendered("a", 1, (Branch([1, 2, 3, 4, 5], [False, True, True, True, True]),))
    turns = Rendered("b", 2, (Branch([7, 8, 9, 10, 11], [False, False, True, False, True]),))
    found = join(own, turns, 5)
    assert found.branches == (Branch([1, 9, 10, 11], [False, True, False, True]),)


def test_held_out_prompts_get_answers_of_training_examples() -> None:
    heldout = [thumb(i) for i in range(20, 24)]
    found = mismatched_with(heldout, EIGHT, 3)
    limit = max(len(one.branches[0].ids) for one in (*heldout, *EIGHT))
    answers = [own_answer(one) for one in EIGHT]
    for own, other in zip(heldout, found, strict=True):
        assert list(other.prompt_ids) == list(own.prompt_ids)
        assert len(other.branches[0].ids) <= limit
        assert any(own_answer(other) == a[: len(own_answer(other))] for a in answers)
    assert [one.branches for one in mismatched_with(heldout, EIGHT, 3)] == [
        one.branches for one in found
    ]
    assert mismatched_with([], EIGHT, 3) == []


# --- z₀ in a step -----------------------------------------------------------------------


def reference() -> LiveReference:
    return LiveReference(Policy(tiny_model(seed=1)), nullcontext)


def cut_into(examples: list[Rendered], cuts: list[list[int]]) -> list[MicroBatch]:
    return pack(examples, list(range(len(examples))), cuts, share=True, device=CPU)


def step(cuts: list[list[int]], over: list[list[int]], model: Any = None) -> StepResult:
    frozen = reference()
    others = Packed(cut_into(mismatched(EIGHT, 3, 0), over), frozen)
    packed = Packed(cut_into(EIGHT, cuts), frozen, others)
    policy = Policy(tiny_model() if model is None else model)
    return compute_step(policy, METHODS["kto"], KTO(desirable=1.0, undesirable=1.2), packed, {})


def ratios(policy_seed: int, reference_seed: int, examples: list[Rendered]) -> Tensor:
    """The summed log-ratio of each example, computed one by one."""
    sums = [
        torch.tensor(
            [float(v.double().sum()) for v in score(Policy(tiny_model(seed=s)), examples, 1)]
        )
        for s in (policy_seed, reference_seed)
    ]
    return sums[0] - sums[1]


WHOLE = [list(range(8))]
SINGLE = [[i] for i in range(8)]
UNEVEN = [[5, 1, 7], [0], [2, 3, 4, 6]]


def test_z0_is_the_mean_over_the_mismatched_and_never_depends_on_the_cut() -> None:
    expected = max(0.0, float(ratios(0, 1, mismatched(EIGHT, 3, 0)).mean()))
    assert expected > 0.1, "or the clamp would hide it"
    results, gradients = [], []
    for cuts, over in ((WHOLE, WHOLE), (SINGLE, UNEVEN), (UNEVEN, SINGLE)):
        model = tiny_model()
        results.append(step(cuts, over, model))
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for result in results:
        assert result.metrics["drift"].tolist() == pytest.approx([expected] * 8, rel=1e-4)
        assert float(result.loss) == pytest.approx(float(results[0].loss), rel=1e-6)
        assert result.examples == 8
    for gradient in gradients[1:]:
        for name, value in gradients[0].items():
            scale = float(value.abs().max())
            torch.testing.assert_close(gradient[name], value, rtol=0, atol=1e-5 * scale)


def test_the_step_by_hand() -> None:
    """λ(1 − σ(β(r − z₀))) up, 1.2(1 − σ(β(z₀ − r))) down, their mean; z₀ without gradient."""
    drift = float(ratios(0, 1, mismatched(EIGHT, 3, 0)).mean())
    own, up = ratios(0, 1, EIGHT), torch.tensor([bool(one.desirable) for one in EIGHT])
    gain = 0.1 * torch.where(up, own - drift, drift - own)
    expected = (torch.where(up, 1.0, 1.2) * (1 - gain.sigmoid())).mean()
    assert float(step(UNEVEN, UNEVEN).loss) == pytest.approx(float(expected), rel=1e-5)


def test_z0_is_never_below_zero() -> None:
    """Policy and reference change places, and with them the sign of the mean."""
    assert float(ratios(1, 0, mismatched(EIGHT, 3, 0)).mean()) < -0.1
    frozen = LiveReference(Policy(tiny_model(seed=0)), nullcontext)
    others = Packed(cut_into(mismatched(EIGHT, 3, 0), WHOLE), frozen)
    packed = Packed(cut_into(EIGHT, WHOLE), frozen, others)
    result = compute_step(Policy(tiny_model(seed=1)), METHODS["kto"], KTO(), packed, {})
    assert result.metrics["drift"].tolist() == [0.0] * 8
