"""Linear layers that round their trained weight where they use it, and keep no rounded copy.

Under autocast a trained fp32 weight is rounded to bf16 once a forward pass, and autograd keeps
that copy until the backward one. Where weights are divided over ranks (`palate.train.shard`),
that would leave every rank with 2 bytes for each weight of the whole model: the gathered weight
is freed after its layer, the copy is not. Here autograd keeps the weight itself, whose memory
`fully_shard` frees after the layer and fills again before the layer's backward pass; it is
rounded then once more, to the same bits. The cost is that second rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def round_at_use(model: nn.Module) -> int:
    """Give linear layers with a trained weight this forward; returns how many there are.

    The output head is left out: it belongs to what stays gathered for the whole pass, and its
    log-probs have a form of their own (`palate.model.head`). So are layers that are no
    `nn.Linear`, as GPT-2's or the experts of a mixture: those keep their rounded copies.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    taken = 0
    for module in model.modules():
        if type(module) is nn.Linear and module is not head and module.weight.requires_grad:
            forward = partial(_forward, module, module.forward)
            module.forward = forward  # type: ignore[method-assign]
            taken += 1
    return taken


def _forward(layer: nn.Linear, theirs: Any, x: Tensor) -> Tensor:
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        result: Tensor = theirs(x)
        return result
    out: Tensor = _Rounded.apply(  # type: ignore[no-untyped-call]
        x, layer.weight, layer.bias, torch.get_autocast_dtype(kind)
    )
    return out


class _Rounded(torch.autograd.Function):
    """x W^T + b of x [..., in], W [out, in] and b [out], rounded to `dtype` as autocast does."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        narrow = x.to(dtype)
        ctx.save_for_backward(narrow, weight)
        ctx.dtypes = x.dtype, None if bias is None else bias.dtype
        return functional.linear(narrow, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        narrow, weight = ctx.saved_tensors
        x_dtype, bias_dtype = ctx.dtypes
        flat, inputs = grad.reshape(-1, grad.shape[-1]), narrow.reshape(-1, narrow.shape[-1])
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = (flat @ weight.to(narrow.dtype)).view(narrow.shape).to(x_dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = (flat.t() @ inputs).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0).to(bias_dtype)
        return grad_x, grad_weight, grad_bias, None
