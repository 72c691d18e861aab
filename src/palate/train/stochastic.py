"""Stochastic rounding to bf16: what eight significant bits cannot hold, they hold on average.

A value between two neighbours of bf16 becomes the upper one with a probability that grows
linearly from 0 to 1 between them, so that its expectation is the value itself (Gupta et al. 2015,
arXiv 1502.02551). Rounded to nearest, an update below half the distance of neighbours (1/512 to
1/256 of the weight) is lost at every step; so rounded, some of the steps move the weight by the
whole distance, and their mean is the update.

What is drawn is a pure function of (seed, step, name, first element), so that a continued run
rounds as an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from palate.config import ConfigError


def round_to_bf16(values: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 of any shape to bf16, each element rounded by itself; finite stays finite or overflows.

    The sixteen bits that bf16 drops are compared with sixteen random ones by adding them: a
    carry is the step to the neighbour that is larger in magnitude.
    """
    flat = values.contiguous().view(-1)
    words = torch.empty(-(-flat.numel() // 4), dtype=torch.int64, device=values.device)
    words.random_(-(2**63), None, generator=generator)
    noise = words.view(torch.int16)[: flat.numel()].to(torch.int32).bitwise_and_(0xFFFF)
    carried = noise.add_(flat.view(torch.int32)).bitwise_and_(-0x10000)
    rounded = carried.view(torch.float32).to(torch.bfloat16)  # exact: the dropped bits are 0
    return torch.where(flat.isfinite(), rounded, flat.to(torch.bfloat16)).view(values.shape)


def rounding_generator(
    device: torch.device, seed: int, step: int, name: str, first: int
) -> torch.Generator:
    """The stream that rounds the elements of weight `name` from `first` on, in one step."""
    text = f"rounding|{seed}|{step}|{name}|{first}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    return torch.Generator(device).manual_seed(key)


def narrow_weights(model: nn.Module, weights: str, precision: str) -> None:
    """With `bf16`, keep the trained matrices of linear layers in bf16, and sum gradients in fp32.

    Norms and embeddings (and a head that shares its matrix with one) stay fp32, as the residual
    stream does. Raises `ConfigError` where matrix products are fp32.
    """
    if weights == "fp32":
        return
    if precision != "bf16":
        raise ConfigError(
            "train.weights is bf16, but this run computes in fp32: set train.precision=bf16, or "
            "train.weights=fp32"
        )
    for weight in _linear_weights(model):
        weight.data = weight.data.to(torch.bfloat16)
        weight.grad_dtype = torch.float32


def _linear_weights(model: nn.Module) -> Iterable[nn.Parameter]:
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        if not linear or not isinstance(weight, nn.Parameter) or id(weight) in shared:
            continue
        if weight.requires_grad:
            yield weight
