"""From hidden states to the log-probs of the supervised tokens.

Only supervised positions reach the head. The logits of a batch can be the largest
tensor of a step, so above a budget they are computed in chunks and again in the
backward pass. Log-sum-exp is fp32 whatever the compute precision.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# fp32 logits of one chunk, in bytes; a chunk's forward and backward hold about three of them
LOGITS_BUDGET = 512 * 2**20


def target_logps(
    head: Callable[[Tensor], Tensor],
    hidden_HD: Tensor,
    rows_P: Tensor,
    targets_P: Tensor,
    vocabulary: int,
    budget: int = LOGITS_BUDGET,
) -> Tensor:
    """log softmax(head(hidden))[targets], fp32, shape [P].

    `rows_P` is ascending and names the row of `hidden_HD` that predicts each target.
    """
    rows = hidden_HD.shape[0]
    chunk = max(1, budget // (4 * vocabulary))
    if rows <= chunk:
        return _chunk_logps(head, hidden_HD, rows_P, targets_P)
    pieces = []
    bounds = torch.arange(0, rows + chunk, chunk, device=rows_P.device).clamp(max=rows)
    cuts = torch.searchsorted(rows_P, bounds).tolist()
    for number, (begin, end) in enumerate(pairwise(cuts)):
        first = number * chunk
        piece: Tensor = checkpoint(
            _chunk_logps,
            head,
            hidden_HD[first : first + chunk],
            rows_P[begin:end] - first,
            targets_P[begin:end],
            use_reentrant=False,
        )
        pieces.append(piece)
    return torch.cat(pieces)


def _chunk_logps(
    head: Callable[[Tensor], Tensor], hidden_HD: Tensor, rows_P: Tensor, targets_P: Tensor
) -> Tensor:
    logits_HV = head(hidden_HD).float()
    normaliser_H = torch.logsumexp(logits_HV, dim=-1)
    return logits_HV[rows_P, targets_P] - normaliser_H[rows_P]
