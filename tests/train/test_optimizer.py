"""The schedule, AdamW and clipping against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from palate.config import AdapterConfig, OptimConfig
from palate.train.optimizer import clip_gradients, default_lr, lr_at, make_adamw, set_lr


def _rates(total: int, **settings: Any) -> list[float]:
    config = OptimConfig(**settings)
    return [lr_at(step, total, config, 1.0) for step in range(total)]


def test_cosine() -> None:
    """10 steps, warm-up of 2: 1/3, 2/3, then ½(1 + cos(π k/8)) for k = 0 … 7."""
    expected = [1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    found = _rates(10, schedule="cosine", warmup=0.2)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[2] == 1.0  # the step after the warm-up has the peak
    assert found[6] == pytest.approx(0.5)  # half way down: cos(π/2) = 0
    assert found[9] == pytest.approx(0.5 * (1 - math.cos(math.pi / 8)))  # not yet 0


def test_linear() -> None:
    found = _rates(6, schedule="linear", warmup=1 / 3)
    assert found == pytest.approx([1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25])


def test_constant_after_the_warm_up() -> None:
    assert _rates(5, schedule="constant", warmup=0.2) == pytest.approx([0.5, 1, 1, 1, 1])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_single_step_has_the_peak(schedule: str) -> None:
    assert _rates(1, schedule=schedule, warmup=0.0) == [1.0]
    assert _rates(1, schedule=schedule, warmup=0.4) == [1.0]  # round(0.4) = 0 steps of warm-up


def test_a_warm_up_that_takes_all_steps_still_rises() -> None:
    assert _rates(3, schedule="cosine", warmup=0.99) == pytest.approx([0.25, 0.5, 0.75])


def test_the_peak_scales_every_rate() -> None:
    config = OptimConfig(schedule="linear", warmup=0.0)
    assert lr_at(1, 4, config, 2e-4) == pytest.approx(1.5e-4)


def test_default_rates() -> None:
    lora, full = AdapterConfig(), AdapterConfig(kind="full")
    small, large = 135_000_000, 7_000_000_000
    assert [default_lr(lora, small), default_lr(lora, large)] == [2e-4, 2e-5]
    assert [default_lr(full, small), default_lr(full, large)] == [1e-5, 1e-6]


def test_adamw_step_by_hand() -> None:
    """First step, g = 0.5, w = 2, lr = 0.1, decay = 0.01, β = (0.9, 0.99), eps = 0.

    m̂ = 0.1·0.5 / (1 − 0.9) = 0.5 and v̂ = 0.01·0.25 / (1 − 0.99) = 0.25, so the update is
    m̂/√v̂ = 1: w ← 2·(1 − 0.1·0.01) − 0.1 = 1.898. Second step with g = −1:
    m = 0.9·0.05 − 0.1 = −0.055, m̂ = −0.055/0.19; v = 0.99·0.0025 + 0.01 = 0.012475,
    v̂ = 0.012475/0.0199.
    """
    w = torch.nn.Parameter(torch.full((1, 1), 2.0))
    config = OptimConfig(weight_decay=0.01, betas=(0.9, 0.99), eps=1e-30)
    optimizer = make_adamw({"w": w}, config, 0.1)
    w.grad = torch.full((1, 1), 0.5)
    optimizer.step()
    assert w.item() == pytest.approx(1.898, abs=1e-6)
    w.grad = torch.full((1, 1), -1.0)
    optimizer.step()
    update = (-0.055 / 0.19) / math.sqrt(0.012475 / 0.0199)
    assert w.item() == pytest.approx(1.898 * 0.999 - 0.1 * update, abs=1e-6)


def test_only_matrices_decay() -> None:
    matrix, vector = (torch.nn.Parameter(torch.ones(size)) for size in ((2, 2), (2,)))
    optimizer = make_adamw({"m": matrix, "v": vector}, OptimConfig(weight_decay=0.5), 0.1)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(matrix, torch.full((2, 2), 1 - 0.1 * 0.5))
    assert torch.equal(vector, torch.ones(2))


def test_every_group_takes_the_rate() -> None:
    weights = {"m": torch.nn.Parameter(torch.ones(2, 2)), "v": torch.nn.Parameter(torch.ones(2))}
    optimizer = make_adamw(weights, OptimConfig(), 0.1)
    set_lr(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]


def test_trained_weights_are_fp32_or_bf16() -> None:
    half = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float16))
    with pytest.raises(AssertionError):
        make_adamw({"w": half}, OptimConfig(), 0.1)


def _with_gradients(*values: list[float]) -> list[torch.Tensor]:
    weights = []
    for value in values:
        weight = torch.nn.Parameter(torch.zeros(len(value)))
        weight.grad = torch.tensor(value)
        weights.append(weight)
    return weights


def test_clipping_by_hand() -> None:
    """Gradients (3, 4) and (12): the joint norm is √(9 + 16 + 144) = 13."""
    a, b = _with_gradients([3.0, 4.0], [12.0])
    no_gradient = torch.nn.Parameter(torch.zeros(3))
    assert float(clip_gradients([a, b, no_gradient], 6.5)) == pytest.approx(13.0)
    assert a.grad is not None
    assert b.grad is not None
    assert torch.allclose(a.grad, torch.tensor([1.5, 2.0]), atol=1e-5)
    assert torch.allclose(b.grad, torch.tensor([6.0]), atol=1e-5)


@pytest.mark.parametrize("limit", [None, 13.0, 100.0])
def test_gradients_within_the_limit_are_left_alone(limit: float | None) -> None:
    a, b = _with_gradients([3.0, 4.0], [12.0])
    assert float(clip_gradients([a, b], limit)) == pytest.approx(13.0)
    assert torch.equal(torch.cat([a.grad, b.grad]), torch.tensor([3.0, 4.0, 12.0]))  # type: ignore[list-item]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_not_finite_changes_nothing(bad: float) -> None:
    a, b = _with_gradients([3.0, 4.0], [bad])
    assert not math.isfinite(float(clip_gradients([a, b], 1.0)))
    assert torch.equal(a.grad, torch.tensor([3.0, 4.0]))  # type: ignore[arg-type]
