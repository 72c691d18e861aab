"""Padding a forest up to a few sizes, for code that is compiled anew for every size.

The padded rows are a root of their own that nothing hangs below and nothing is predicted from:
they are computed, seen by nobody, and get no gradient.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from palate.tokens.tree import Forest, Segment

# The smallest step between sizes, which is also a block of flex attention's mask.
STEP = 128
# Sizes between two powers of two: at most an eighth of the rows is padding beyond `STEP`.
_PER_OCTAVE = 8


def bucket(tokens: int) -> int:
    """The size that `tokens` rows are padded up to."""
    step = max(STEP, (1 << (tokens - 1).bit_length()) // (2 * _PER_OCTAVE))
    return -(-tokens // step) * step


def pad_forest(forest: Forest, size: int) -> Forest:
    """The forest with `size` rows; kept in the forest. Branches and predictions are the same."""
    extra = size - forest.unique_tokens
    assert extra >= 0, "a forest is never cut"
    if extra == 0:
        return forest
    key = ("padded", size)
    if key not in forest.plans:
        ids_T, positions_T = forest.ids_T, forest.positions_T
        steps = torch.arange(extra, dtype=positions_T.dtype, device=positions_T.device)
        dead = Segment(forest.unique_tokens, size, parent=-1, position=0, context=())
        forest.plans[key] = replace(
            forest,
            ids_T=torch.cat([ids_T, ids_T.new_zeros(extra)]),
            positions_T=torch.cat([positions_T, steps]),
            segments=(*forest.segments, dead),
            plans={},
        )
    padded: Forest = forest.plans[key]
    return padded
