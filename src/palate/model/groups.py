"""Which segments of a forest attend in one call, and how their rows are gathered.

Below the roots a forest has dozens of short segments; one attention call for each, in
each layer, costs more than the arithmetic. Segments of similar size are padded into a
group and computed together. The plan of a forest is made once and serves all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.tokens.tree import Forest, Segment

# A group may hold at most this many times the (query, key) pairs that its segments need.
PADDING = 1.5


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, end) of the packed row stand at column `at` of group members [first, last)."""

    start: int
    end: int
    first: int
    last: int
    at: int


@dataclass(frozen=True, slots=True)
class Group:
    """S segments padded to Q queries and K keys.

    - `rows_N`: the segments' own packed rows, member after member; `places_N`: where each
      stands in the flat [S·Q].
    - `keys`: flat [S·K] packed rows of the keys; padding repeats row 0 and is masked.
    - `bias`: [S, 1, G·Q, K], 0 where a query may look and −inf elsewhere; repeated for the G
      query heads that share a key head, which lie along the query axis.
    - `pieces`: the same layout of keys as ranges, for the sums of the backward pass.
    """

    members: int
    width: int
    length: int
    rows_N: Tensor
    places_N: Tensor
    keys: Tensor
    bias: Tensor
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """What is computed one by one and what together.

    `order` puts the rows of `roots`, then of `groups`, back into the packed order.
    """

    roots: tuple[tuple[int, int], ...]
    groups: tuple[Group, ...]
    order: Tensor


def plan_attention(
    forest: Forest, window: int | None, dtype: torch.dtype, heads: int = 1
) -> AttentionPlan:
    """The plan for a forest under a sliding window (None: no window); kept in the forest.

    `heads` is the number of query heads that share a key head.
    """
    key = ("attention", window, dtype, heads)
    if key not in forest.plans:
        forest.plans[key] = _make(forest, window, dtype, heads)
    plan: AttentionPlan = forest.plans[key]
    return plan


def _make(forest: Forest, window: int | None, dtype: torch.dtype, heads: int) -> AttentionPlan:
    device = forest.ids_T.device
    roots = [s for s in forest.segments if s.parent < 0]
    below = [s for s in forest.segments if s.parent >= 0]
    groups = tuple(_group(part, window, dtype, heads, device) for part in divide(below))
    rows = [torch.arange(s.start, s.end, device=device) for s in roots]
    rows += [group.rows_N for group in groups]
    return AttentionPlan(
        roots=tuple((s.start, s.end) for s in roots),
        groups=groups,
        order=torch.argsort(torch.cat(rows)),
    )


def divide(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of similar length, longest first, so that padding stays below `PADDING`."""
    parts: list[list[Segment]] = []
    needed = keys = 0
    for segment in sorted(segments, key=lambda s: (-s.length, -s.position, s.start)):
        total = segment.position + segment.length
        if parts:
            widest = max(keys, total)
            padded = (len(parts[-1]) + 1) * parts[-1][0].length * widest
            if padded <= PADDING * (needed + segment.length * total):
                parts[-1].append(segment)
                needed, keys = needed + segment.length * total, widest
                continue
        parts.append([segment])
        needed, keys = segment.length * total, total
    # Packed order inside a group makes an ancestor's descendants neighbours.
    return [sorted(part, key=lambda s: s.start) for part in parts]


def _group(
    segments: Sequence[Segment],
    window: int | None,
    dtype: torch.dtype,
    heads: int,
    device: torch.device,
) -> Group:
    width = max(s.length for s in segments)
    length = max(s.position + s.length for s in segments)
    keys = np.zeros((len(segments), length), dtype=np.int64)
    allowed = np.zeros((len(segments), width, length), dtype=bool)
    allowed[:, :, 0] = True  # a padded query looks at something, and its result is dropped
    rows: list[np.ndarray[Any, Any]] = []
    places: list[np.ndarray[Any, Any]] = []
    for member, segment in enumerate(segments):
        at = 0
        for start, end in path_of(segment):
            keys[member, at : at + end - start] = np.arange(start, end)
            at += end - start
        row = np.arange(segment.position, at)[:, None]
        column = np.arange(length)[None, :]
        seen = column <= row
        if window is not None:
            seen &= column > row - window
        allowed[member, : segment.length] = seen
        rows.append(np.arange(segment.start, segment.end))
        places.append(np.arange(segment.length) + member * width)
    bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(
        torch.from_numpy(~allowed), float("-inf")
    )
    return Group(
        members=len(segments),
        width=width,
        length=length,
        rows_N=torch.from_numpy(np.concatenate(rows)).to(device),
        places_N=torch.from_numpy(np.concatenate(places)).to(device),
        keys=torch.from_numpy(keys.reshape(-1)).to(device),
        bias=bias[:, None].repeat(1, 1, heads, 1).to(device),
        pieces=_pieces(segments),
    )


def _pieces(segments: Sequence[Segment]) -> tuple[Piece, ...]:
    """Runs of neighbouring members that have the same range at the same column."""
    found: list[Piece] = []
    running: dict[tuple[int, int], Piece] = {}
    for member, segment in enumerate(segments):
        at = 0
        for start, end in path_of(segment):
            open_piece = running.get((start, end))
            first = member
            if open_piece is not None and open_piece.last == member:
                found.remove(open_piece)
                first = open_piece.first
            piece = Piece(start, end, first, member + 1, at)
            found.append(piece)
            running[start, end] = piece
            at += end - start
    return tuple(found)


def path_of(segment: Segment) -> list[tuple[int, int]]:
    """Row ranges from the root down to the segment itself."""
    return [*segment.context, (segment.start, segment.end)]
