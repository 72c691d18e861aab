"""The budget by arithmetic: what fits, what is the largest, what is remembered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tests.train.tasks import make_plan

import palate.train.budget as budgeting
from palate.model.cost import Work
from palate.tokens.render import Rendered
from palate.tokens.sampler import Sampler
from palate.tokens.tree import Branch
from palate.train.budget import (
    CHOICES,
    MARGIN,
    Budget,
    Decision,
    decide,
    enough_on,
    largest_microbatch,
)
from palate.train.folder import Lowered, Plan


@dataclass(frozen=True)
class Bytes:
    """Stands for `palate.model.memory.Memory`."""

    total: float


def need(work: Work) -> Bytes:
    """100 bytes and ten more for every unique token."""
    return Bytes(100 + 10 * work.unique)


def example(index: int, length: int = 40) -> Rendered:
    """A pair of `length` tokens that shares nothing with the others; 2 · length in plain rows."""
    prompt = [index + 10] * (length - 20)
    sides = tuple(Branch([*prompt, *[k] * 10], [False] * len(prompt) + [True] * 10) for k in (1, 2))
    return Rendered(str(index), len(prompt), sides)


EXAMPLES = [example(i) for i in range(64)]
SAMPLER = Sampler(64, 32, seed=0)  # two steps of 32 · 40 = 1280 tokens


def decided(
    wanted: object, room: int | None, examples: list[Rendered] = EXAMPLES
) -> Decision[Bytes]:
    sampler = Sampler(len(examples), 32, seed=0)
    return decide(wanted, examples, sampler, 2, share=True, need=need, room=room)  # type: ignore[arg-type]


def test_auto_takes_the_most_that_fits() -> None:
    assert decided("auto", None).tokens == CHOICES[0] == 8192
    # All of a step at once is 100 + 12 800 bytes.
    assert decided("auto", int(12_900 / MARGIN) + 1).tokens == 8192
    # 1024 tokens are 25 examples: 100 + 10 000 bytes.
    found = decided("auto", int(12_900 / MARGIN) - 1)
    assert (found.tokens, len(found.largest), found.memory.total) == (1024, 25, 10_100)
    assert found.fits


def test_auto_is_enough_unless_that_tears_apart_what_is_shared() -> None:
    loose = [example(i) for i in range(64)]
    trunk = list(range(1000, 2500))
    sides = [
        tuple(
            Branch([*trunk, *[i + 10] * 60, *[k] * 50], [False] * 1560 + [True] * 50)
            for k in (1, 2)
        )
        for i in range(16)
    ]
    under_one_trunk = [Rendered(str(i), 1560, pair) for i, pair in enumerate(sides)]

    def found(examples: list[Rendered], enough: int) -> int:
        sampler = Sampler(len(examples), 16, seed=0)
        room: dict[str, Any] = {"share": True, "need": need, "room": None}
        return decide("auto", examples, sampler, 1, **room, enough=enough).tokens

    assert found(loose, 2048) == 2048
    assert found(loose, CHOICES[0]) == CHOICES[0]
    # All at once 1500 + 16 · 160 = 4060 tokens: in 4096 with one trunk, in 2048 with six.
    assert found(under_one_trunk, 2048) == 4096
    assert (enough_on("cpu"), enough_on("cuda:0")) == (2048, CHOICES[0])


def test_a_number_is_a_ceiling() -> None:
    assert decided(700, None).tokens == 700
    assert decided(700, 10**9).tokens == 700
    # 17 examples of 40 tokens are 6,900 bytes; 512 tokens hold 12, which are 4,900.
    assert decided(700, int(6_900 / MARGIN) - 1).tokens == 512


def test_what_never_fits_is_said() -> None:
    found = decided("auto", 50)
    assert not found.fits
    assert found.tokens == CHOICES[-1]
    long = [example(i, 2000) for i in range(4)]
    alone = decided("auto", 50, long)
    assert len(alone.largest) == 1, "a smaller budget would change nothing"
    assert alone.tokens == 2048


def test_the_largest_is_that_of_all_steps() -> None:
    """One long example among short ones, drawn late."""
    examples = [example(i, 40 + 400 * (i == 3)) for i in range(64)]
    sampler = Sampler(64, 2, seed=0)
    at = next(k for k in range(32) if 3 in sampler.batch(k))
    rows, work = largest_microbatch(examples, sampler, 32, 8192, share=True, need=need)  # type: ignore[arg-type]
    assert set(rows) == set(sampler.batch(at))
    assert work.unique == 440 + 40
    rows, _ = largest_microbatch(examples, sampler, at, 8192, share=True, need=need)  # type: ignore[arg-type]
    assert 3 not in rows, "steps that the run does not take do not count"
    rows, work = largest_microbatch(examples, sampler, 32, 8192, share=False, need=need)  # type: ignore[arg-type]
    assert work.padded == 4 * 430


def test_equal_sizes_are_told_apart_by_what_they_need() -> None:
    """The same number of tokens, but more of them under one trunk."""
    sampler = Sampler(64, 1, seed=0)
    rows, _ = largest_microbatch(
        EXAMPLES,
        sampler,
        64,
        8192,
        share=True,
        need=lambda work: Bytes(work.unique),
    )
    assert len(rows) == 1


def test_a_budget_is_only_ever_lowered_and_remembered() -> None:
    kept: list[Plan] = []
    budget = Budget(make_plan(500), kept.append)
    assert [budget.at(k) for k in (0, 9)] == [500, 500]
    budget.lower(4, 200)
    budget.lower(6, 100)
    assert [budget.at(k) for k in (3, 4, 5, 6, 7)] == [500, 200, 200, 100, 100]
    assert budget.first == 500
    assert kept[-1] == replace(make_plan(500), lowered=(Lowered(4, 200), Lowered(6, 100)))
    with pytest.raises(AssertionError):
        budget.lower(7, 100)


def test_the_room_of_a_cpu_is_what_is_free_and_what_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgeting, "taken_memory", lambda: 300)
    monkeypatch.setattr(budgeting, "free_memory", lambda: 700)
    assert budgeting.room_on(torch.device("cpu")) == 1000
    monkeypatch.setattr(budgeting, "free_memory", lambda: None)
    assert budgeting.room_on(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (50, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 20)
    assert budgeting.room_on(torch.device("cuda")) == 70
