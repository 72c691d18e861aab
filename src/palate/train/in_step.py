"""The reference's log-probs where ranks divide the weights: no rank can compute without the others.

Each forward pass gathers weights from all ranks, so that all must make as many. What some rank has
not on its disk is divided among all, and each tells the others what it found.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from palate.model.score import score_rows, supervised_tokens
from palate.train.parallel import PeerFailed, Ranks
from palate.train.reference import Files
from palate.train.shard import give_up_gathered
from palate.train.task import Interrupted


def values_in_step(files: Files, advance: Callable[[int], None], ranks: Ranks) -> dict[int, Tensor]:
    """The values by row; the policy must be the reference now, on all ranks.

    A rank with fewer passes makes up for it by passes over its first example. Afterwards each
    machine's disk has all files. A rank that is asked to stop stops all: the callback's
    `Interrupted`, and on the others `PeerFailed` without a word.
    """
    by_row: dict[int, Tensor] = {}
    lacks = torch.zeros(len(files.shards), dtype=torch.int64)
    for number in range(len(files.shards)):
        found = files.read(number)
        lacks[number] = found is None
        by_row.update(found or {})
    (lacked,) = ranks.gather([lacks])
    wanted = lacked.view(ranks.world, -1).any(0).nonzero()[:, 0].tolist()
    left = sum(len(files.rows(number)) for number in wanted)
    _tell(advance, len(files.examples) - left, ranks)
    if not wanted:
        return by_row
    mine: list[Tensor] = []
    for first in range(0, len(wanted), ranks.world):
        those = wanted[first : first + ranks.world]
        mine += _computed(files, those, ranks)
        _tell(advance, sum(len(files.rows(number)) for number in those), ranks)
    give_up_gathered(files.policy)
    by_row |= _exchanged(files, wanted, mine, ranks)
    if ranks.local == 0:
        for number in wanted:
            if files.read(number) is None:  # it was computed on another machine
                files.write(number, {row: by_row[row] for row in files.rows(number)})
    return by_row


def _computed(files: Files, numbers: list[int], ranks: Ranks) -> list[Tensor]:
    """Compute one file on each rank, as long as there are any; the values of this rank's rows."""
    passes = max(len(files.shards[number]) for number in numbers)
    values: list[Tensor] = []
    if ranks.rank < len(numbers):
        number = numbers[ranks.rank]
        found = files.compute(number)
        values = [found[row] for row in files.rows(number)]
        passes -= len(files.shards[number])
    for _ in range(passes):
        score_rows(files.policy, files.examples, [0])
    return values


def _exchanged(
    files: Files, wanted: list[int], mine: list[Tensor], ranks: Ranks
) -> dict[int, Tensor]:
    """What all ranks computed, by row; `mine` are this rank's values in the order of its files."""
    (together,) = ranks.gather([torch.cat([torch.empty(0), *mine])])
    numbers = [number for rank in range(ranks.world) for number in wanted[rank :: ranks.world]]
    order = [row for number in numbers for row in files.rows(number)]
    sizes = [supervised_tokens(files.examples[row]) for row in order]
    return dict(zip(order, (part.clone() for part in together.split(sizes)), strict=True))


def _tell(advance: Callable[[int], None], count: int, ranks: Ranks) -> None:
    """Say how many examples are done; where that ends one rank's work, it ends all ranks'."""
    stopped: Exception | None = None
    try:
        advance(count)
    except Interrupted as error:
        stopped = error
    if ranks.most(stopped is not None):
        raise stopped or PeerFailed
