"""Log-probs without logits: the head and its softmax in one kernel, in bf16 with fp32 sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.model.native.build import counts, library, native, pointers

_DEPTH, _WORDS = 32, 512  # of a tile product, and of a block of the vocabulary, as in head.cpp


def serves(hidden_HD: Tensor, matrix_VD: Tensor | None) -> bool:
    """Whether the C++ kernel computes these log-probs: under bf16 autocast on this processor."""
    return (
        matrix_VD is not None
        and hidden_HD.device.type == "cpu"
        and hidden_HD.shape[-1] % _DEPTH == 0
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and native().library is not None
    )


def head_logps(hidden_HD: Tensor, matrix_VD: Tensor, rows_P: Tensor, targets_P: Tensor) -> Tensor:
    """log softmax(hidden W^T)[targets] [P], fp32; hidden [H, D], W [V, D], P predictions."""
    found: Tensor = _HeadLogps.apply(  # type: ignore[no-untyped-call]
        hidden_HD, matrix_VD, rows_P, targets_P
    )
    return found


class _HeadLogps(torch.autograd.Function):
    """Without logits kept, forward or backward.

    With p the softmax and g the gradient of a log-prob, the hidden state's gradient is
    g (W_t − Σ_v p_v W_v); the sum is found together with the softmax. A trained W gets
    g (1_t − p) times the hidden state, for which the softmax is computed again, in fp32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_HD: Tensor, matrix_VD: Tensor, rows_P: Tensor, targets_P: Tensor
    ) -> Tensor:
        inputs_HD = hidden_HD.bfloat16().contiguous()
        weight_VD = matrix_VD.detach().bfloat16().contiguous()
        (rows, width), vocabulary = hidden_HD.shape, len(matrix_VD)
        sizes = counts(rows, width, vocabulary)
        lse_H = torch.empty(rows)
        mean_HD = turned = None
        if any(ctx.needs_input_grad[:2]):
            mean_HD = torch.empty(rows, width)
            blocks = -(-vocabulary // _WORDS)
            turned = torch.empty(blocks * _WORDS * width, dtype=torch.bfloat16)
            library().palate_head_transpose(
                *counts(vocabulary, width), *pointers(weight_VD, turned)
            )
        library().palate_head_forward(
            *sizes, *pointers(inputs_HD, weight_VD, turned, lse_H, mean_HD)
        )
        ctx.save_for_backward(inputs_HD, matrix_VD, rows_P, targets_P, lse_H, mean_HD)
        ctx.dtype = hidden_HD.dtype
        chosen_P = (inputs_HD[rows_P].float() * weight_VD[targets_P].float()).sum(-1)
        return chosen_P - lse_H[rows_P]

    @staticmethod
    def backward(ctx: Any, grad_P: Tensor) -> tuple[Any, ...]:
        inputs_HD, matrix_VD, rows_P, targets_P, lse_H, mean_HD = ctx.saved_tensors
        weight_VD = matrix_VD.detach().bfloat16().contiguous()
        grad_H = torch.zeros_like(lse_H).index_add_(0, rows_P, grad_P)
        grad_HD = None
        if ctx.needs_input_grad[0]:
            grad_HD = mean_HD * -grad_H[:, None]
            grad_HD.index_add_(0, rows_P, grad_P[:, None] * weight_VD[targets_P].float())
            grad_HD = grad_HD.to(ctx.dtype)
        grad_VD = None
        if ctx.needs_input_grad[1]:
            grad_VD, share_H = torch.empty(weight_VD.shape), -grad_H
            library().palate_head_backward(
                *counts(*inputs_HD.shape, len(weight_VD)),
                *pointers(inputs_HD, weight_VD, lse_H, share_H, grad_VD),
            )
            grad_VD.index_add_(0, targets_P, grad_P[:, None] * inputs_HD[rows_P].float())
            grad_VD = grad_VD.to(matrix_VD.dtype)
        return grad_HD, grad_VD, None, None
