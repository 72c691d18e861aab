"""Statistics of the distribution over the vocabulary, row by row and never for the whole batch.

Each needs all logits of a row: they are computed in chunks of rows, and where a gradient is asked
for again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# The KL of another distribution from ours has a gradient; the log of the sum of squares and the
# entropy, −Σ p log p, have none.
Statistic = Literal["kl", "log_sum_p2", "entropy"]
Head = Callable[[Tensor], Tensor]
# Tensors of the size of a chunk's logits that are held at the peak.
_COPIES = 4


@dataclass(frozen=True, slots=True)
class Distribution:
    """Hidden states [H, D] and the head that turns them into logits: another model's view."""

    hidden_HD: Tensor
    head: Head


def row_statistics(
    head: Head,
    hidden_HD: Tensor,
    wanted: Sequence[Statistic],
    vocabulary: int,
    budget: int,
    other: Distribution | None = None,
) -> dict[str, Tensor]:
    """Each statistic in nats, fp32 or wider, [H]. `other` is what "kl" is measured from."""
    rows = hidden_HD.shape[0]
    chunk = max(1, budget // (_COPIES * 4 * vocabulary))
    pieces: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for first in range(0, rows, chunk):
        ours = hidden_HD[first : first + chunk]
        for name in wanted:
            if name == "kl":
                assert other is not None, "a KL has two sides"
                theirs = other.hidden_HD[first : first + chunk]
                found = checkpoint(_kl, head, ours, other.head, theirs, use_reentrant=False)
            else:
                with torch.no_grad():
                    found = _OWN[name](torch.log_softmax(_wide(head(ours)), dim=-1))
            pieces[name].append(found)
    return {name: torch.cat(found) for name, found in pieces.items()}


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _kl(head: Head, ours: Tensor, other: Head, theirs: Tensor) -> Tensor:
    """Σ_v q (log q − log p), q the other distribution."""
    with torch.no_grad():
        log_q = torch.log_softmax(_wide(other(theirs)), dim=-1)
    log_p = torch.log_softmax(_wide(head(ours)), dim=-1)
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1)


_OWN: dict[str, Callable[[Tensor], Tensor]] = {
    "log_sum_p2": lambda log_p: torch.logsumexp(2 * log_p, dim=-1),
    "entropy": lambda log_p: -(log_p.exp() * log_p).sum(dim=-1),
}
