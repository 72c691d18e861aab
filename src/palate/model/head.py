"""From hidden states to the log-probs of the supervised tokens.

Only supervised positions reach the head. The logits of a batch can be the largest tensor of a
step, so above a budget they are computed in chunks, and again in the backward pass. Log-sum-exp
is fp32 whatever the compute precision, and a trained head's gradient is summed over the chunks
in fp32: a running sum in bf16 would lose the small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from palate.tokens.tree import Forest

# fp32 logits of one chunk, in bytes; a chunk's forward and backward hold about three of them
LOGITS_BUDGET = 512 * 2**20
# The part of a GPU's free memory that one chunk may take, where that is more.
SHARE_OF_FREE = 1 / 16


def logits_budget(device: torch.device) -> int:
    """Bytes that the fp32 logits of one chunk may take on a device as it is now."""
    if device.type != "cuda":
        return LOGITS_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return max(LOGITS_BUDGET, int(free * SHARE_OF_FREE))


def target_logps(
    head: Callable[[Tensor], Tensor],
    hidden_HD: Tensor,
    forest: Forest,
    vocabulary: int,
    budget: int = LOGITS_BUDGET,
    matrix: Tensor | None = None,
) -> Tensor:
    """log softmax(head(hidden))[targets], fp32, shape [P].

    hidden_HD holds the forest's rows `hidden_H`. `matrix` [V, D] is the head's weight where the
    head is nothing but that (`matrix_of`): chunks then need no graph of their own.
    """
    rows = hidden_HD.shape[0]
    chunk = max(1, budget // (4 * vocabulary))
    if rows <= chunk:
        return _chunk_logps(head, hidden_HD, forest.rows_P, forest.targets_P)
    cuts = tuple(_cuts(forest, chunk))
    if matrix is not None:
        found: Tensor = _MatrixLogps.apply(  # type: ignore[no-untyped-call]
            hidden_HD, matrix, forest.rows_P, forest.targets_P, cuts
        )
        return found
    pieces: list[Tensor] = [
        checkpoint(
            _chunk_logps,
            head,
            hidden_HD[first:last],
            forest.rows_P[begin:end] - first,
            forest.targets_P[begin:end],
            use_reentrant=False,
        )
        for first, last, begin, end in cuts
    ]
    return torch.cat(pieces)


def matrix_of(head: nn.Module) -> Tensor | None:
    """The weight of a head that is one plain matrix; None for adapted, biased or hooked ones."""
    plain = type(head) is nn.Linear and head.bias is None and type(head.weight) is nn.Parameter
    own = vars(head)
    hooked = own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own
    return head.weight if plain and not hooked else None  # type: ignore[return-value]


Cut = tuple[int, int, int, int]


def _cuts(forest: Forest, chunk: int) -> list[Cut]:
    """(first, last, begin, end): hidden rows [first, last) make predictions [begin, end)."""
    rows = len(forest.first_H) - 1
    bounds = [(first, min(rows, first + chunk)) for first in range(0, rows, chunk)]
    return [(a, b, int(forest.first_H[a]), int(forest.first_H[b])) for a, b in bounds]


def _chunk_logps(
    head: Callable[[Tensor], Tensor], hidden_HD: Tensor, rows_P: Tensor, targets_P: Tensor
) -> Tensor:
    logits_HV = head(hidden_HD).float()
    normaliser_H = torch.logsumexp(logits_HV, dim=-1)
    return logits_HV[rows_P, targets_P] - normaliser_H[rows_P]


class _MatrixLogps(torch.autograd.Function):
    """The log-probs of a head that is one matrix, chunk by chunk.

    With p = softmax(W x) and g the gradient of log p[t], the logits' gradient is g (1_t − p); for
    a row with several targets, the sum of those. The chunk's logits are computed again for it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_HD: Tensor,
        matrix_VD: Tensor,
        rows_P: Tensor,
        targets_P: Tensor,
        cuts: tuple[Cut, ...],
    ) -> Tensor:
        kind = hidden_HD.device.type
        ctx.dtype = (
            torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_HD.dtype
        )
        ctx.cuts = cuts
        wide = torch.promote_types(ctx.dtype, torch.float32)
        inputs_HD, weight_VD = hidden_HD.to(ctx.dtype), matrix_VD.to(ctx.dtype)
        normaliser_H = torch.empty(len(hidden_HD), dtype=wide, device=hidden_HD.device)
        logps_P = torch.empty(len(rows_P), dtype=wide, device=hidden_HD.device)
        for first, last, begin, end in cuts:
            logits_CV = (inputs_HD[first:last] @ weight_VD.t()).to(wide)
            normaliser_H[first:last] = torch.logsumexp(logits_CV, dim=-1)
            rows_C, targets_C = rows_P[begin:end], targets_P[begin:end]
            logps_P[begin:end] = logits_CV[rows_C - first, targets_C] - normaliser_H[rows_C]
        ctx.save_for_backward(hidden_HD, matrix_VD, rows_P, targets_P, normaliser_H)
        return logps_P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_P: Tensor) -> tuple[Tensor | None, ...]:
        hidden_HD, matrix_VD, rows_P, targets_P, normaliser_H = ctx.saved_tensors
        inputs_HD, weight_VD = hidden_HD.to(ctx.dtype), matrix_VD.to(ctx.dtype)
        wants_hidden, wants_matrix = ctx.needs_input_grad[:2]
        grad_H = torch.zeros_like(normaliser_H).index_put_((rows_P,), grad_P, accumulate=True)
        grad_HD = torch.empty_like(hidden_HD) if wants_hidden else None
        grad_VD = torch.zeros_like(matrix_VD, dtype=normaliser_H.dtype) if wants_matrix else None
        for first, last, begin, end in ctx.cuts:
            logits_CV = (inputs_HD[first:last] @ weight_VD.t()).to(normaliser_H.dtype)
            logits_CV.sub_(normaliser_H[first:last, None]).exp_().mul_(-grad_H[first:last, None])
            # no (row, target) comes twice in a forest, so nothing is lost by a plain write
            places = (rows_P[begin:end] - first, targets_P[begin:end])
            logits_CV.index_put_(places, logits_CV[places] + grad_P[begin:end])
            narrow_CV = logits_CV.to(ctx.dtype)
            if grad_HD is not None:
                grad_HD[first:last] = narrow_CV @ weight_VD
            if grad_VD is not None:
                _add_product(grad_VD, narrow_CV.t(), inputs_HD[first:last])
        grad_matrix = None if grad_VD is None else grad_VD.to(matrix_VD.dtype)
        return grad_HD, grad_matrix, None, None, None


def _add_product(total_VD: Tensor, left_VC: Tensor, right_CD: Tensor) -> None:
    """total += left · right; a half-precision product keeps fp32 where the device can."""
    if left_VC.dtype == total_VD.dtype:
        total_VD.addmm_(left_VC, right_CD)
    elif left_VC.device.type == "cuda":
        total_VD += torch.mm(left_VC, right_CD, out_dtype=total_VD.dtype)
    else:
        total_VD += left_VC @ right_CD
