"""Steps that went wrong: left out by the fused optimizer itself, and named when it is looked at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from palate.train.guard import Guard

NAN, FINE = torch.tensor(float("nan"), dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
NORM = torch.tensor(2.0)


def weight() -> Tensor:
    return torch.nn.Parameter(torch.ones(3))


def guarded(fused: bool) -> tuple[Guard, Tensor]:
    """The fused kernel of a CPU keeps the contract of the GPU's."""
    at = weight()
    adamw = torch.optim.AdamW([at], lr=0.1, fused=fused, foreach=not fused)
    return Guard(adamw, deferred=fused), at


@pytest.mark.parametrize("fused", [False, True])
def test_finite_steps_are_those_of_the_optimizer(fused: bool) -> None:
    guard, at = guarded(fused)
    own = weight()
    optimizer = torch.optim.AdamW([own], lr=0.1, fused=fused, foreach=not fused)
    for step in range(3):
        at.grad = torch.tensor([1.0, -2.0, 0.5 + step])
        own.grad = at.grad.clone()
        guard.step(FINE, NORM, [1, 2])
        optimizer.step()
    guard.settle()
    assert torch.equal(at, own)


def test_by_default_a_wrong_step_is_refused_at_once() -> None:
    guard, at = guarded(fused=False)
    at.grad = torch.ones(3)
    with pytest.raises(FloatingPointError, match=r"the loss is nan on examples \[4, 7\]"):
        guard.step(NAN, NORM, [4, 7])
    with pytest.raises(FloatingPointError, match=r"the gradient norm is inf on examples \[4\]"):
        guard.step(FINE, torch.tensor(float("inf")), [4])
    assert at.tolist() == [1, 1, 1]


def test_a_fused_optimizer_leaves_it_out_and_it_is_named_one_step_later() -> None:
    guard, at = guarded(fused=True)
    at.grad = torch.ones(3)
    guard.step(FINE, NORM, [0])
    after_one = at.detach().clone()
    moments = {k: v.clone() for k, v in guard.optimizer.state[at].items()}
    at.grad = torch.full((3,), float("nan"))
    guard.step(NAN, NAN, [5, 6])
    assert torch.equal(at, after_one)
    for name, value in guard.optimizer.state[at].items():
        assert torch.equal(value, moments[name]), name
    at.grad = torch.ones(3)
    with pytest.raises(FloatingPointError, match=r"the loss is nan on examples \[5, 6\]"):
        guard.step(FINE, NORM, [8])
    assert torch.equal(at, after_one), "nothing follows a step that was left out"


def test_settling_looks_at_the_last_step() -> None:
    guard, at = guarded(fused=True)
    guard.settle()
    at.grad = torch.ones(3)
    guard.step(FINE, torch.tensor(float("nan")), [3])
    with pytest.raises(FloatingPointError, match=r"the gradient norm is nan on examples \[3\]"):
        guard.settle()
    guard.settle()


def test_fused_moments_come_back_from_a_checkpoint(tmp_path: object) -> None:
    """Its step counts are tensors beside the weights; the next step has the same bits."""
    from pathlib import Path

    from tests.train.test_checkpoint import save

    from palate.train.checkpoint import load_latest

    guard, at = guarded(fused=True)
    at.grad = torch.tensor([1.0, 2.0, 3.0])
    guard.step(FINE, NORM, [0])
    save(Path(str(tmp_path)), 1, {"w": at}, guard.optimizer, {}, 2)
    other, there = guarded(fused=True)
    load_latest(Path(str(tmp_path)), {"w": there}, other.optimizer)
    for one in (at, there):
        one.grad = torch.tensor([-1.0, 2.0, 0.5])
    guard.step(FINE, NORM, [1])
    other.step(FINE, NORM, [1])
    assert torch.equal(at, there)
