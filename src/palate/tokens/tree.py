"""Token trees: a batch as a forest of segments in which each shared token stands once.

Branches (a prompt with one completion each) that begin with the same tokens share
those tokens' segment, whatever the reason: two answers to one prompt, one system
prompt over many conversations, the earlier turns of the same conversation. The
forest is laid out in one packed row, parents before children. Sharing is by token
ids alone, so it never depends on where a message ends.

What a model computes over the row equals the plain padded computation when each
segment's queries see their ancestors and their own past (see
`palate.model.attention`) and positions count from the root (ENGINE: arXiv
2410.20305 shares one pair's prompt; a forest shares all of it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A shared beginning shorter than this costs more in attention calls than it saves.
MIN_SHARED = 8
# Nor is one shared that would save less than this share of the tokens, and with them of the
# body's operations, of the branches below it (ENGINE: "share only where it pays").
WORTH = 0.03


@dataclass(frozen=True, slots=True)
class Branch:
    """One root-to-leaf sequence: its ids, and True where a token is trained on."""

    ids: Sequence[int]
    mask: Sequence[bool]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.mask), "ids and mask are built together"
        assert not self.mask[:1] or not self.mask[0], "the first token has nothing to predict it"


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [start, end) of the packed row, below segment `parent` (-1 for a root).

    `context` lists the ancestors' row ranges, root first; `position` is the number of
    tokens above the segment.
    """

    start: int
    end: int
    parent: int
    position: int
    context: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Number of tokens in the segment itself."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Forest:
    """A batch of branches, packed.

    Shapes: T packed tokens, B branches, H rows whose hidden state reaches the head,
    P distinct (row, target) predictions, N supervised tokens over all branches (N ≥ P,
    because branches may share a supervised token).

    - `ids_T`, `positions_T`: the packed row.
    - `hidden_H`: rows of the packed row that the head needs, ascending.
    - `rows_P`, `targets_P`: prediction p scores token `targets_P[p]` at `hidden_H[rows_P[p]]`.
    - `first_H`: on the host, [H + 1]; predictions [first_H[h], first_H[h + 1]) are those of
      hidden row h.
    - `predictions_N`, `branches_N`: supervised token n of the batch, in branch order and
      then in reading order, is prediction `predictions_N[n]` of branch `branches_N[n]`.
    - `last_B`: the packed row of each branch's last token.
    - `path_tokens`: tokens the plain layout would compute, padding not counted.
    - `plans`: what others derive from the forest once and use in every layer.
    """

    ids_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    branches: int
    hidden_H: Tensor
    rows_P: Tensor
    targets_P: Tensor
    predictions_N: Tensor
    branches_N: Tensor
    last_B: Tensor
    path_tokens: int
    first_H: np.ndarray[Any, Any] = field(compare=False, repr=False)
    plans: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def unique_tokens(self) -> int:
        """Tokens that are computed: the packed row's length."""
        return int(self.ids_T.shape[0])

    @property
    def shared(self) -> bool:
        """Whether any segment has a parent."""
        return any(segment.parent >= 0 for segment in self.segments)

    def to(self, device: torch.device) -> Forest:
        """The same forest with its tensors on `device`; a copy to a GPU does not wait for it."""
        return Forest(
            ids_T=to_device(self.ids_T, device),
            positions_T=to_device(self.positions_T, device),
            segments=self.segments,
            branches=self.branches,
            hidden_H=to_device(self.hidden_H, device),
            rows_P=to_device(self.rows_P, device),
            targets_P=to_device(self.targets_P, device),
            predictions_N=to_device(self.predictions_N, device),
            branches_N=to_device(self.branches_N, device),
            last_B=to_device(self.last_B, device),
            path_tokens=self.path_tokens,
            first_H=self.first_H,
        )


def build_forest(
    branches: Sequence[Branch],
    *,
    share: bool = True,
    min_shared: int = MIN_SHARED,
    worth: float = WORTH,
) -> Forest:
    """Lay branches out as a forest. Branch numbers are positions in `branches`.

    With `share=False` every branch is a root of its own: the plain layout. A common
    beginning is repeated rather than shared where it is shorter than `min_shared` tokens, or
    sharing it would spare less than `worth` of the tokens of the branches that have it. The
    forest is a function of the branches alone, so that a resumed run builds the same.
    """
    assert branches, "a forest needs at least one branch"
    builder = _Builder(branches)
    for stretch in _stretches([b.ids for b in branches], share, min_shared, worth):
        builder.emit(*stretch)
    return builder.finish()


def packed_tokens(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens of the forest that `build_forest` would make of these paths."""
    return sum(end - begin for _, begin, end, _ in _stretches(sequences, True, MIN_SHARED, WORTH))


# Branches that have it, first and last token on their paths, and the number of the parent.
Stretch = tuple[Sequence[int], int, int, int]


def _stretches(
    sequences: Sequence[Sequence[int]], share: bool, min_shared: int, worth: float
) -> Iterator[Stretch]:
    """The forest's segments, parents before children; numbers count from 0 as they come.

    Sorted sequences with a common beginning are neighbours, so every group is a range of the
    sorted order, and all that matters is how many tokens each shares with the one before.
    """
    if not share:
        yield from (([index], 0, len(ids), -1) for index, ids in enumerate(sequences))
        return
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    lengths = [len(sequences[i]) for i in order]
    shared = [0, *(common_prefix(sequences[a], sequences[b]) for a, b in pairwise(order))]
    todo, made = [(0, len(order), 0, -1)], 0
    while todo:
        low, high, depth, parent = todo.pop()
        common = min(shared[low + 1 : high], default=lengths[low])
        same = common == lengths[high - 1]  # the last of the order ends here: all are equal
        borders = [] if same else [k for k in range(low + 1, high) if shared[k] == common]
        if common > depth and (same or common - depth >= min_shared):
            saved = len(borders) * (common - depth)
            below = sum(lengths[k] - max(shared[k], depth) for k in range(low + 1, high))
            if same or saved >= worth * (lengths[low] - depth + below + saved):
                yield order[low:high], depth, common, parent
                parent, depth, made = made, common, made + 1
        if borders:
            parts = pairwise([low, *borders, high])
            todo.extend((first, last, depth, parent) for first, last in reversed([*parts]))


class _Builder:
    """Collects segments; each branch remembers the segments on its path."""

    def __init__(self, branches: Sequence[Branch]) -> None:
        self.branches = branches
        self.segments: list[Segment] = []
        self.paths: list[list[int]] = [[] for _ in branches]
        self.ids: list[int] = []

    def emit(self, group: Sequence[int], begin: int, end: int, parent: int) -> None:
        """Add tokens [begin, end) of the group's common path as one segment."""
        above = self.segments[parent] if parent >= 0 else None
        context = (*above.context, (above.start, above.end)) if above else ()
        start = len(self.ids)
        self.ids.extend(self.branches[group[0]].ids[begin:end])
        self.segments.append(Segment(start, len(self.ids), parent, begin, context))
        for index in group:
            self.paths[index].append(len(self.segments) - 1)

    def finish(self) -> Forest:
        """Number the predictions and turn everything into tensors."""
        ids_T = np.asarray(self.ids, dtype=np.int64)
        positions = [np.arange(s.position, s.position + s.length) for s in self.segments]
        rows: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        owners: list[np.ndarray] = []
        last: list[int] = []
        for index, branch in enumerate(self.branches):
            spans = (self.segments[s] for s in self.paths[index])
            path = np.concatenate([np.arange(s.start, s.end) for s in spans])
            assert len(path) == len(branch.ids), "a path holds every token of its branch"
            supervised = np.flatnonzero(np.asarray(branch.mask, dtype=bool))
            rows.append(path[supervised - 1])
            targets.append(ids_T[path[supervised]])
            owners.append(np.full(len(supervised), index, dtype=np.int64))
            last.append(int(path[-1]))
        row_N, target_N = np.concatenate(rows), np.concatenate(targets)
        pairs_P, predictions_N = np.unique(
            np.stack([row_N, target_N], axis=1), axis=0, return_inverse=True
        )
        hidden_H, rows_P = np.unique(pairs_P[:, 0], return_inverse=True)
        return Forest(
            ids_T=torch.from_numpy(ids_T),
            positions_T=torch.from_numpy(np.concatenate(positions).astype(np.int64)),
            segments=tuple(self.segments),
            branches=len(self.branches),
            hidden_H=torch.from_numpy(hidden_H),
            rows_P=torch.from_numpy(rows_P.reshape(-1)),
            targets_P=torch.from_numpy(pairs_P[:, 1].copy()),
            predictions_N=torch.from_numpy(predictions_N.reshape(-1)),
            branches_N=torch.from_numpy(np.concatenate(owners)),
            last_B=torch.tensor(last, dtype=torch.int64),
            path_tokens=sum(len(branch.ids) for branch in self.branches),
            first_H=np.searchsorted(rows_P.reshape(-1), np.arange(len(hidden_H) + 1)),
        )


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; through pinned memory to a GPU, so that the host does not wait."""
    if device.type == "cuda" and host.device.type == "cpu":
        return host.pin_memory().to(device, non_blocking=True)
    return host.to(device)


def common_prefix(left: Sequence[int], right: Sequence[int], start: int = 0) -> int:
    """Length of the common beginning of two id sequences that agree up to `start`."""
    end = min(len(left), len(right))
    for index in range(start, end):
        if left[index] != right[index]:
            return index
    return end


def unique_tokens(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens of the smallest forest over these sequences (every shared token counted once)."""
    return sum(fresh for _, fresh in fresh_tokens(sorted(sequences, key=tuple)))


def fresh_tokens(ordered: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """(index, tokens not shared with the sequence before), over sorted sequences."""
    previous: Sequence[int] = ()
    for index, ids in enumerate(ordered):
        yield index, len(ids) - common_prefix(previous, ids)
        previous = ids
