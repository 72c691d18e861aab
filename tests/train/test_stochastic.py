"""Stochastic rounding: unbiased, between neighbours, and a function of what it is drawn from."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_model

from palate.config import AdapterConfig, ConfigError
from palate.model.adapters import attach, trainable
from palate.train.stochastic import narrow_weights, round_to_bf16, rounding_generator

CPU = torch.device("cpu")


def stream(seed: int = 0, step: int = 1, name: str = "w", first: int = 0) -> torch.Generator:
    return rounding_generator(CPU, seed, step, name, first)


def test_the_mean_of_many_roundings_is_the_value() -> None:
    """Each rounding is the lower neighbour plus a gap with probability p: its variance is at most
    gap²/4, so the mean of 40,000 lies within 5 · gap / (2 · 200) of the value.
    """
    values = torch.tensor([1.001, -1.001, 3.1415927, -2.7e-5, 1e30, 0.3, 1e-39, 255.9])
    many = 40_000
    rounded = round_to_bf16(values.repeat(many), stream()).float().view(many, -1).double()
    low, high = rounded.min(dim=0).values, rounded.max(dim=0).values
    gap = high - low
    assert (gap > 0).all()
    assert ((low <= values.double()) & (values.double() <= high)).all()
    assert ((rounded == low) | (rounded == high)).all(), "one of two neighbours, never further"
    assert ((rounded.mean(dim=0) - values.double()).abs() <= 5 * gap / (2 * many**0.5)).all()
    nearest = values.to(torch.bfloat16).double()
    assert ((nearest == low) | (nearest == high)).all()


def test_what_bf16_can_hold_is_never_moved() -> None:
    held = torch.randn(1000).to(torch.bfloat16)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf]).to(torch.bfloat16)
    for values in (held, special):
        assert torch.equal(round_to_bf16(values.float(), stream()), values)
    assert round_to_bf16(torch.tensor([torch.nan, -torch.nan]), stream()).isnan().all()


def test_small_updates_are_not_lost_on_average() -> None:
    """1 + 2^-12 a step is an eighth of half the gap of 2^-7: to nearest, nothing ever happens. In
    512 steps the sum is 0.125; it is 16 gaps, binomial with variance below 16, over 4,000 weights.
    """
    weights = torch.ones(4000, dtype=torch.bfloat16)
    lost = weights.clone()
    for step in range(512):
        weights = round_to_bf16(weights.float() + 2**-12, stream(step=step))
        lost = (lost.float() + 2**-12).to(torch.bfloat16)
    assert torch.equal(lost, torch.ones_like(lost))
    error = abs(float(weights.double().mean()) - 1.125)
    assert error <= 5 * (4 * 2**-7) / 4000**0.5


def test_the_same_is_drawn_for_the_same_and_something_else_for_anything_else() -> None:
    values = torch.full((64,), 1.001)
    first = round_to_bf16(values, stream())
    assert torch.equal(round_to_bf16(values, stream()), first)
    for other in (stream(seed=1), stream(step=2), stream(name="v"), stream(first=1)):
        assert not torch.equal(round_to_bf16(values, other), first)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_values(count: int) -> None:
    values = torch.linspace(1, 2, count).view(1, count)
    assert round_to_bf16(values, stream()).shape == (1, count)


def test_trained_matrices_are_narrowed_and_their_gradients_are_not() -> None:
    """The tiny Llama's head is its embedding: it, the norms and nothing else stay fp32."""
    model = tiny_model()
    attach(model, AdapterConfig(kind="full"), 0)
    narrow_weights(model, "bf16", "bf16")
    wide = {name for name, w in trainable(model).items() if w.dtype == torch.float32}
    assert all("norm" in name or "embed" in name for name in wide)
    assert len(wide) == 6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.tensor([[1, 2, 3]])).logits.float().square().sum().backward()
    assert {w.grad.dtype for w in trainable(model).values() if w.grad is not None} == {
        torch.float32
    }


def test_bf16_weights_want_bf16_products() -> None:
    with pytest.raises(ConfigError, match=r"train.precision=bf16"):
        narrow_weights(tiny_model(), "bf16", "fp32")
