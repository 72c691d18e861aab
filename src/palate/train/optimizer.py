"""AdamW, the learning-rate schedule, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from palate.config import AdapterConfig, OptimConfig
from palate.train.compact_adamw import CompactAdamW

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


def make_adamw(
    weights: Mapping[str, Tensor], config: OptimConfig, lr: float, seed: int = 0
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); decay on matrices only.

    torch's own for fp32 weights and moments; ours where either is kept in less, whose
    stochastic rounding is drawn from `seed`.
    """
    dtypes = {w.dtype for w in weights.values()}
    assert dtypes <= {torch.float32, torch.bfloat16}, "trained weights are fp32 or bf16"
    matrices = {name: w for name, w in weights.items() if w.ndim >= 2}
    vectors = {name: w for name, w in weights.items() if w.ndim < 2}
    groups = [
        {"params": list(some.values()), "names": list(some), "weight_decay": decay}
        for some, decay in ((matrices, config.weight_decay), (vectors, 0.0))
        if some
    ]
    settings: dict[str, Any] = {"lr": lr, "betas": config.betas, "eps": config.eps}
    in_8_bits = config.name == "adamw8bit"
    if in_8_bits or torch.bfloat16 in dtypes:
        return CompactAdamW(groups, **settings, in_8_bits=in_8_bits, seed=seed)
    # Fused: the fastest on a CPU, and on a GPU it leaves out a step that went wrong without being
    # asked by the host (`palate.train.guard`).
    return torch.optim.AdamW(groups, **settings, fused=True)


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

    A norm that is not finite is returned as it is, and on a CPU nothing was changed then:
    `palate.train.guard` looks at it, on a GPU later, because the host does not wait for it.
    """
    grads = [w.grad for w in weights if w.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    if hasattr(norm, "full_tensor"):  # of shards: their norms are joined over ranks
        norm = norm.full_tensor()
    if norm.device.type != "cpu":
        if limit is not None:
            scale = torch.where(norm > limit, limit / (norm + 1e-6), 1.0)
            torch._foreach_mul_(grads, scale)
        return norm
    value = float(norm)
    if limit is not None and limit < value < math.inf:
        torch._foreach_mul_(grads, limit / (value + 1e-6))
    return norm
