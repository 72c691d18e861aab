"""What is settled before anything long begins: the budget, tried and written down once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import pair
from torch import Tensor

import palate.train.trial as trying
from palate.config import RunConfig
from palate.losses.registry import METHODS
from palate.model.adapters import trainable
from palate.model.cost import Work, anatomy_of
from palate.model.sharding import division, rank_memory
from palate.progress import Quiet
from palate.train.budget import CHOICES, ENOUGH_ON_CPU
from palate.train.folder import Lowered, read_plan, write_plan
from palate.train.parallel import Ranks
from palate.train.retry import DoesNotFit
from palate.train.setup import Learner, set_up
from palate.train.trial import settle

EXAMPLES = [pair(i) for i in range(10)]
DPO = (METHODS["dpo"], METHODS["dpo"].params())


class Noted(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def recipe(model: Path, **train: Any) -> RunConfig:
    settings = {"batch_size": 4, "precision": "fp32", **train}
    return RunConfig.model_validate({"model": str(model), "data": "d.jsonl", "train": settings})


def learn(config: RunConfig, folder: Path) -> Learner:
    return set_up(config, folder, False, Quiet())


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> list[int]:
    """Backward passes over so many tokens run out of memory; returns the tokens of each try."""
    real, tries = trying.compute_step, []

    def compute(policy: Any, method: Any, params: Any, packed: Any, *rest: Any) -> Any:
        result = real(policy, method, params, packed, *rest)
        assert all(w.grad is not None for w in trainable(policy).values())
        tries.append(packed.batches[0].forest.unique_tokens)
        if fails(tries[-1]):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return result

    monkeypatch.setattr(trying, "compute_step", compute)
    return tries


def test_the_budget_is_written_and_found_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(model)
    learner = learn(config, tmp_path)
    budget = settle(config, tmp_path, learner, DPO, EXAMPLES, Quiet())
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.tokens_per_microbatch == budget.first == ENOUGH_ON_CPU
    budget.lower(3, 100)
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.lowered == (Lowered(3, 100),)
    # A continued run does as its plan says, and tries nothing.
    monkeypatch.setattr(trying, "attempt", None)
    kept = replace(learner, plan=replace(plan, tokens_per_microbatch=777))
    again = settle(config, tmp_path, kept, DPO, EXAMPLES, Quiet())
    assert (again.first, again.at(2), again.at(3)) == (777, 777, 100)


def test_the_trial_leaves_no_trace(model: Path, tmp_path: Path) -> None:
    config = recipe(model)
    learner = learn(config, tmp_path)
    before = {name: w.clone() for name, w in learner.policy.state_dict().items()}
    drawn = torch.get_rng_state()
    settle(config, tmp_path, learner, DPO, EXAMPLES, Quiet())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(w.grad is None for w in learner.policy.parameters())
    after = learner.policy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("live", ["cached", "live"])
def test_what_fails_when_tried_is_lowered_there_and_then(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: str
) -> None:
    config = recipe(model, reference=live)
    tries = failing(monkeypatch, lambda tokens: tokens > 40)
    say, learner = Noted(), learn(config, tmp_path)
    budget = settle(config, tmp_path, learner, DPO, EXAMPLES, say)
    assert len(tries) >= 2
    assert tries == sorted(tries, reverse=True)
    assert tries[0] > 40 >= tries[-1]
    assert budget.first < CHOICES[0]
    plan = read_plan(tmp_path)
    assert plan is not None
    assert (plan.tokens_per_microbatch, plan.lowered) == (budget.first, ())
    assert sum("out of memory on the largest micro-batch" in note for note in say.notes) >= 1
    assert all(w.grad is None for w in learner.policy.parameters())


def test_one_example_that_never_fits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, lambda tokens: True)
    config = recipe(model)
    with pytest.raises(DoesNotFit, match="one example alone"):
        settle(config, tmp_path, learn(config, tmp_path), DPO, EXAMPLES, Quiet())
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.tokens_per_microbatch is None, "nothing is settled: the next start tries again"


def test_where_the_kernel_would_kill_the_budget_is_split_beforehand(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try is small enough already: on a CPU a second one would never come."""
    config = recipe(model, batch_size=10, tokens_per_microbatch=5000)
    learner = learn(config, tmp_path)

    class Predicted:
        def __init__(self, total: float) -> None:
            self.total = total

    monkeypatch.setattr("palate.train.budget.memory", lambda _, work, **__: Predicted(work.unique))
    monkeypatch.setattr(trying, "room_on", lambda _: 100)
    monkeypatch.setattr("palate.train.budget.CHOICES", (80, 40))
    monkeypatch.setattr("palate.train.budget.MARGIN", 0.5)
    tries, say = failing(monkeypatch, lambda tokens: False), Noted()
    budget = settle(config, tmp_path, learner, DPO, EXAMPLES, say)
    assert budget.first == 40
    assert len(tries) == 1
    assert tries[0] <= 40
    assert "5000 does not fit: 40 is used" in say.notes[0]
    monkeypatch.setattr(trying, "room_on", lambda _: 10)
    settle(config, tmp_path, learner, DPO, EXAMPLES, say)
    assert "WARNING" in say.notes[-1]


def test_values_that_overflow_do_not_matter(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's reference is not the real one: a loss may be infinite on it."""

    def overflows(*_: Any) -> Tensor:
        raise FloatingPointError("the loss is inf")

    monkeypatch.setattr(trying, "compute_step", overflows)
    config = recipe(model)
    assert settle(config, tmp_path, learn(config, tmp_path), DPO, EXAMPLES, Quiet()).first > 0


def test_a_plan_that_is_not_settled_is_settled_on_resume(model: Path, tmp_path: Path) -> None:
    config = recipe(model)
    learner = learn(config, tmp_path)
    write_plan(tmp_path, learner.plan)
    again = set_up(config, tmp_path, True, Quiet())
    assert settle(config, tmp_path, again, DPO, EXAMPLES, Quiet()).first == ENOUGH_ON_CPU


class TwoRanks(Ranks):
    """The first of two that divide the weights."""

    world, parallel = 2, "fsdp"


def test_where_weights_are_divided_the_budget_is_not_tried(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole gradients and moments on one rank need not fit; a rank's share of them must."""
    config = recipe(model)
    monkeypatch.setattr(trying, "attempt", None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    learner = learn(config, tmp_path)
    plan = replace(learner.plan, ranks=2, parallel="fsdp", tokens_per_microbatch=None)
    learner, say = replace(learner, plan=plan), Noted()
    anatomy = anatomy_of(learner.policy.model.config)
    # Two ranks on one machine: each may take half of its memory.
    stays = rank_memory(anatomy, Work(), config.adapter, "fp32", division("fsdp", 2, 2), gpu=False)
    monkeypatch.setattr(trying, "room_on", lambda _: int(2 * 4 * stays.total))
    budget = settle(config, tmp_path, learner, DPO, EXAMPLES, say, TwoRanks())
    assert (budget.first, say.notes) == (ENOUGH_ON_CPU, [])
    found = read_plan(tmp_path)
    assert found is not None
    assert found.tokens_per_microbatch == ENOUGH_ON_CPU
    monkeypatch.setattr(trying, "room_on", lambda _: int(2 * stays.total / 2))
    settle(config, tmp_path, learner, DPO, EXAMPLES, say, TwoRanks())
    assert "WARNING: this run needs about" in say.notes[0]
