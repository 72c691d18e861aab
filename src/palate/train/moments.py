"""AdamW's moments in 8 bits: blocks of 256 values, each with the scale of its largest.

Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861. A value
divided by its block's largest magnitude becomes the nearest of 256 levels. The levels are a
dynamic tree: each decade from 1e-6 to 1 holds twice as many as the one below, so that small values
keep their order of magnitude and large ones two digits.

One deviation: the second moment is never rounded down to 0. With it at 0 and the first moment
not, the update would be the first moment over eps.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

BLOCK = 256
_DECADES = 7


@functools.cache
def levels(signed: bool, device: torch.device) -> Tensor:
    """The 256 levels in ascending order, fp32: in [-1, 1], or in (0, 1] and 0 for `signed=False`.

    Decade i of 7 spans (0.1, 1] · 10^(i - 6) and holds the midpoints of 2^i equal parts of it on
    either side of 0, or of 2^(i + 1) on one side; 0 and 1 complete them.
    """
    found = [0.0, 1.0]
    for decade in range(_DECADES):
        parts = 2**decade if signed else 2 ** (decade + 1)
        for part in range(parts):
            value = (0.1 + 0.9 * (part + 0.5) / parts) * 10.0 ** (decade - _DECADES + 1)
            found += [value, -value] if signed else [value]
    return torch.tensor(sorted(found), dtype=torch.float32, device=device)


def encode(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """fp32 [n] to codes uint8 [n] and scales fp32 [⌈n / 256⌉]; a block of zeros stays zeros."""
    count = values.numel()
    blocks = torch.nn.functional.pad(values, (0, -count % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    unit = blocks / torch.where(scales > 0, scales, 1.0)[:, None]
    codes = _nearest(unit.view(-1), signed=signed)
    if not signed:
        codes = torch.where(blocks.view(-1) > 0, codes.clamp(min=1), codes)
    return codes.to(torch.uint8)[:count], scales


def _nearest(unit: Tensor, *, signed: bool) -> Tensor:
    """The codes of the levels nearest to values in [-1, 1], int32.

    A value's upper sixteen bits are looked up, and one comparison decides within what they
    leave open, which holds at most one boundary: twenty times faster than a binary search.
    """
    lowest, boundaries = _search_tables(signed, unit.device)
    upper = (unit.view(torch.int32) >> 16).bitwise_and_(0xFFFF)
    codes = lowest.index_select(0, upper)
    return codes.add_(unit > boundaries.index_select(0, codes))


@functools.cache
def _search_tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The code of the lowest value with given upper sixteen bits, and the upper boundaries."""
    table = levels(signed, torch.device("cpu"))
    boundaries = (table[1:] + table[:-1]) / 2
    upper = torch.arange(2**16, dtype=torch.int32)
    # of a negative value's lower bits, the largest magnitude is the lowest value
    bits = (upper << 16) | torch.where(upper >= 2**15, 0xFFFF, 0).to(torch.int32)
    lowest = torch.bucketize(bits.view(torch.float32).nan_to_num(), boundaries, out_int32=True)
    open_above = torch.cat([boundaries, torch.tensor([torch.inf])])
    return lowest.to(device), open_above.to(device)


def decode(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """The fp32 values [n] that codes and scales stand for."""
    count = codes.numel()
    unit = levels(signed, codes.device).index_select(0, codes.view(-1).to(torch.int32))
    padded = torch.nn.functional.pad(unit, (0, -count % BLOCK)).view(-1, BLOCK)
    return (padded * scales[:, None]).view(-1)[:count]
