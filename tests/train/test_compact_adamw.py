"""AdamW for little memory, against torch's own, and continued bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.tasks import make_task, train, weights_of
from tests.train.test_checkpoint import save
from torch import Tensor

import palate.train.compact_adamw as compact
from palate.config import OptimConfig
from palate.train import checkpoint
from palate.train.compact_adamw import SMALL, CompactAdamW
from palate.train.optimizer import make_adamw
from palate.train.stochastic import narrow_weights


def weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    sizes = {"big": (80, 64), "small": (7, 3), "vector": (5,)}
    found: dict[str, Tensor] = {}
    for name, size in sizes.items():
        found[name] = torch.nn.Parameter(torch.randn(size, generator=draw).to(dtype))
        found[name].grad_dtype = torch.float32
    return found


def step(some: dict[str, Tensor], optimizer: torch.optim.Optimizer, number: int) -> None:
    draw = torch.Generator().manual_seed(number)
    for weight in some.values():
        weight.grad = torch.randn(weight.shape, generator=draw)
    optimizer.step()


def compact_of(some: dict[str, Tensor], **settings: Any) -> CompactAdamW:
    groups = [{"params": list(some.values()), "names": list(some), "weight_decay": 0.1}]
    usual: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "seed": 3}
    return CompactAdamW(groups, **{**usual, "in_8_bits": False, **settings})


def test_with_fp32_moments_and_weights_it_is_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "_PIECE", {"cpu": 256})  # several pieces a weight
    ours, theirs = weights(), weights()
    mine = compact_of(ours)
    reference = torch.optim.AdamW(
        theirs.values(), lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1
    )
    for number in range(20):
        step(ours, mine, number)
        step(theirs, reference, number)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6), name


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (256, 2**20):
        monkeypatch.setattr(compact, "_PIECE", {"cpu": size})
        some = weights()
        optimizer = compact_of(some, in_8_bits=True)
        for number in range(3):
            step(some, optimizer, number)
        found.append(some)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_8_bit_moments_take_two_bytes_and_stay_close_to_adamw() -> None:
    """The paper's finding, in small: the way is the same within a few per cent of its length."""
    narrow, wide = weights(), weights()
    start = {name: w.detach().clone() for name, w in narrow.items()}
    optimizers = compact_of(narrow, in_8_bits=True), compact_of(wide)
    for number in range(50):
        step(narrow, optimizers[0], number)
        step(wide, optimizers[1], number)
    state = optimizers[0].state[narrow["big"]]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.uint8
    size = sum(t.numel() * t.element_size() for t in state.values()) / narrow["big"].numel()
    assert size < 2.1
    assert optimizers[0].state[narrow["small"]]["exp_avg"].dtype == torch.float32
    way = (wide["big"] - start["big"]).norm()
    assert 0 < (narrow["big"] - wide["big"]).norm() <= 0.05 * way
    assert torch.equal(narrow["small"], wide["small"]), f"below {SMALL} values moments are fp32"


def test_a_gradient_far_below_its_neighbours_does_not_blow_up() -> None:
    """g = 1e-5 beside 1: v / max(v) = 1e-10 is below every level; were it 0, the update would be
    m / (√((1 - β₂) g²)) = up to 10 times that of AdamW, whose updates are of size lr.
    """
    weight = torch.nn.Parameter(torch.zeros(80, 64))
    optimizer = compact_of({"w": weight}, in_8_bits=True)
    for _ in range(100):
        before = weight.detach().clone()
        weight.grad = torch.full((80, 64), 1e-5)
        weight.grad[:, 0] = 1.0
        optimizer.step()
        assert (weight - before).abs().max() <= 1.1 * 0.01


def test_what_the_recipe_asks_for() -> None:
    plain = make_adamw(weights(), OptimConfig(), 0.1)
    assert isinstance(plain, torch.optim.AdamW)
    eight = make_adamw(weights(), OptimConfig(name="adamw8bit"), 0.1, seed=4)
    assert isinstance(eight, CompactAdamW)
    assert (eight.in_8_bits, eight.seed) == (True, 4)
    half = make_adamw(weights(torch.bfloat16), OptimConfig(), 0.1)
    assert isinstance(half, CompactAdamW)
    assert not half.in_8_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_8_bits", [True, False])
def test_it_goes_on_bit_for_bit(tmp_path: Path, dtype: torch.dtype, in_8_bits: bool) -> None:
    some, other = weights(dtype), weights(dtype)
    first, second = (compact_of(w, in_8_bits=in_8_bits) for w in (some, other))
    for number in range(3):
        step(some, first, number)
    save(tmp_path, 3, some, first, {}, 1)
    assert checkpoint.load_latest(tmp_path, other, second) is not None
    for number in (3, 4):
        step(some, first, number)
        step(other, second, number)
    for name in some:
        assert torch.equal(some[name], other[name]), name
        for key, value in first.state[some[name]].items():
            assert torch.equal(second.state[other[name]][key], value), key
            assert second.state[other[name]][key].dtype == value.dtype


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("stop", [2, 5])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, kind: str, stop: int) -> None:
    """Both at once: bf16 weights and 8-bit moments, through the loop."""

    def task(folder: Path) -> Any:
        made = make_task(folder, kind=kind, precision="bf16")
        narrow_weights(made.policy, "bf16", "bf16")
        object.__setattr__(made, "optim", OptimConfig(name="adamw8bit"))
        return made

    whole = task(tmp_path / "whole")
    before = weights_of(whole)
    train(whole)
    train(task(tmp_path / "parts"), stop_after=stop)
    resumed = task(tmp_path / "parts")
    train(resumed, resume=True)
    ended, again = weights_of(whole), weights_of(resumed)
    assert any(w.dtype == torch.bfloat16 for w in ended.values())
    assert all(torch.equal(ended[name], again[name]) for name in ended)
    assert any(not torch.equal(ended[name], before[name]) for name in ended)
