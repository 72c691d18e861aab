"""A lean forward for peft's LoRA layers.

peft adds the adapter in three passes over the output: a product, a multiplication by the
scale, an addition. Here one matrix product does all three (`addmm`), forward and backward:
on a small model on a CPU those passes were a tenth of a step (docs/performance.md). Only
linear layers, plain or in 4 bits, without dropout or variant are taken over, while one
adapter is active; the rest stay peft's. Turning adapters off, merging and saving are peft's
own throughout.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional

from palate.model.nf4 import NF4Linear

_BASES = {nn.Linear, NF4Linear}


def take_over(model: nn.Module) -> int:
    """Give eligible LoRA layers the lean forward; returns how many there are."""
    taken = 0
    for module in model.modules():
        if type(module) is Linear and type(module.get_base_layer()) in _BASES and plain(module):
            forward = partial(_lean, module, module.forward)
            module.forward = forward  # type: ignore[method-assign]
            taken += 1
    return taken


def plain(layer: Linear) -> bool:
    """Whether peft's layer adds s (x A^T) B^T and nothing else, in the usual orientation."""
    return not layer.fan_in_fan_out and not layer.lora_variant


def _lean(layer: Any, theirs: Any, x: Tensor) -> Tensor:
    """x W^T + s (x A^T) B^T, with W frozen, A [r, in] and B [out, r] of the active adapter."""
    active = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(active) != 1:
        result: Tensor = theirs(x)
        return result
    name = active[0]
    out = layer.base_layer(x)
    inner = functional.linear(x, layer.lora_A[name].weight)
    flat = torch.addmm(
        out.flatten(0, -2),
        inner.flatten(0, -2),
        layer.lora_B[name].weight.t(),
        alpha=layer.scaling[name],
    )
    return flat.view(out.shape)
