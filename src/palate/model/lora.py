"""A lean forward for peft's LoRA layers.

peft adds the adapter in three passes over the output: a product, a multiplication by the
scale, an addition. Here one matrix product does all three (`addmm`), forward and backward:
on a small model on a CPU those passes were a tenth of a step (docs/performance.md). Only
plain linear layers with one active adapter, no dropout and no variant are taken over; the
rest stay peft's. Turning adapters off, merging and saving are peft's own throughout.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional


def take_over(model: nn.Module) -> int:
    """Give eligible LoRA layers the lean forward; returns how many there are."""
    taken = 0
    for module in model.modules():
        if lean(module):
            forward = partial(_lean, module, module.forward, next(iter(module.lora_A)))
            module.forward = forward  # type: ignore[assignment]
            taken += 1
    return taken


def lean(module: Any) -> bool:
    """Whether a module is peft's plain form: one active adapter on an ordinary linear layer."""
    if type(module) is not Linear or type(module.get_base_layer()) is not nn.Linear:
        return False
    adapters = list(module.lora_A)
    plain = not module.fan_in_fan_out and not module.lora_variant
    return plain and len(adapters) == 1 and adapters == list(module.active_adapters)


def _lean(layer: Any, theirs: Any, name: str, x: Tensor) -> Tensor:
    """x W^T + s (x A^T) B^T, with W frozen, A [r, in] and B [out, r] trained."""
    if layer.disable_adapters or layer.merged:
        result: Tensor = theirs(x)
        return result
    out = layer.base_layer(x)
    inner = functional.linear(x, layer.lora_A[name].weight)
    flat = torch.addmm(
        out.flatten(0, -2),
        inner.flatten(0, -2),
        layer.lora_B[name].weight.t(),
        alpha=layer.scaling[name],
    )
    return flat.view(out.shape)
