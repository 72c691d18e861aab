"""AdamW, the learning-rate schedule, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from palate.config import AdapterConfig, OptimConfig

# Below this many parameters a model counts as very small, and takes higher rates.
SMALL_MODEL = 500_000_000


def default_lr(adapter: AdapterConfig, parameters: int) -> float:
    """Peak rate where the recipe names none: very small models take ten times more.

    alignment-handbook uses 1e-6 to 5e-6 for 7B full fine-tuning; LoRA takes ten to
    twenty times the full rate (docs/decisions.md).
    """
    if adapter.kind == "lora":
        return 2e-4 if parameters < SMALL_MODEL else 2e-5
    return 1e-5 if parameters < SMALL_MODEL else 1e-6


def make_adamw(weights: Mapping[str, Tensor], config: OptimConfig, lr: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over fp32 weights; decay on matrices only."""
    assert all(w.dtype == torch.float32 for w in weights.values()), "trained weights are fp32"
    matrices = [w for w in weights.values() if w.ndim >= 2]
    vectors = [w for w in weights.values() if w.ndim < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((matrices, config.weight_decay), (vectors, 0.0))
        if params
    ]
    # Fused on a GPU: one kernel, and it leaves out a step that went wrong without being asked by
    # the host (`palate.train.guard`).
    fused = all(w.is_cuda for w in weights.values())
    return torch.optim.AdamW(
        groups, lr=lr, betas=config.betas, eps=config.eps, foreach=not fused, fused=fused
    )


def lr_at(step: int, total: int, config: OptimConfig, peak: float) -> float:
    """The rate of optimizer step `step` (from 0) of `total`.

    Rises linearly over the first `warmup` share of the steps, so that the step after it
    has the peak; then falls to 0 at step `total` by a half cosine or a line.
    """
    warm = round(config.warmup * total)
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, total - warm)
    if config.schedule == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "linear":
        return peak * (1.0 - progress)
    return peak


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(weights: Iterable[Tensor], limit: float | None) -> Tensor:
    """Scale all gradients so that their joint norm is at most `limit`; returns the norm before.

    Raises `FloatingPointError` when the norm is not finite: nothing was changed then. On a GPU
    the host does not wait for the norm, and `palate.train.guard` looks at it.
    """
    grads = [w.grad for w in weights if w.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    if norm.device.type != "cpu":
        if limit is not None:
            scale = torch.where(norm > limit, limit / (norm + 1e-6), 1.0)
            torch._foreach_mul_(grads, scale)
        return norm
    value = float(norm)
    if not math.isfinite(value):
        raise FloatingPointError(f"the gradient norm is {value}")
    if limit is not None and value > limit:
        torch._foreach_mul_(grads, limit / (value + 1e-6))
    return norm
