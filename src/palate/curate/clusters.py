"""Clusters of near-duplicates in any number of texts, in bounded memory.

Signatures, candidates by bands, a quick look at the estimate of each candidate and then at its
exact Jaccard index, and what is alike is joined: a cluster is what a chain of likes connects. It
depends on the texts alone: not on their order, not on the place where the bands are kept, not on
the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from palate.curate.banding import (
    Banded,
    BandsInMemory,
    BandsOnDisk,
    Shelf,
    banded,
    bands_for,
    joined,
    pairs,
)
from palate.curate.shingles import I64, SLOTS, Sketches, sketch

IN_MEMORY = 20_000
"""Rows up to which the bands stay in memory: 8 MB of them, and no start of DuckDB."""
IN_MEMORY_SHINGLES = 16_000_000
"""Shingles up to which they do: 64 MB, four times what so many rows of 200 words have."""
_CHUNK = 2_000
_CHUNK_LETTERS = 1 << 23  # or one row: of long documents, so many rows would take gigabytes
_CHECKED_AT_ONCE = 1 << 16
_BYTE = 256
MARGIN = 0.12
"""How far an estimate may lie below the threshold: 3.4 standard errors at 0.8, 2.7 at 0.5."""


def find_clusters(
    rows: Iterable[Sequence[str]],
    similarity: float,
    frame: frozenset[int] = frozenset(),
    in_memory: int = IN_MEMORY,
) -> I64:
    """For each row the number of the first row of its cluster; its own if it is alone.

    A row is one or several texts, all rows as many. Two are alike if the Jaccard index of each
    text with its counterpart is at least `similarity`; of the first texts, the shingles of `frame`
    do not count (see `shingles.sketch`). A row without a single word is alone. More than
    `in_memory` rows, or rows of very many words, go to a temporary folder, which is removed:
    1.1 kB for each of 200 words.
    """
    bands, slots = bands_for(similarity)
    spoken: list[NDArray[np.bool_]] = []
    with TemporaryDirectory(prefix="palate-near-") as folder:
        sketches = _sketched(rows, frame, spoken)
        chunks = (banded(some, bands, slots) for some in sketches)
        found = _stored(chunks, bands, Path(folder), in_memory)
        if found is None:
            return np.arange(sum(map(len, spoken)))
        try:
            roots = _joined_up(found, bands, similarity, sum(map(np.count_nonzero, spoken)))
        finally:
            found.finish()
    place = np.flatnonzero(np.concatenate(spoken))
    out = np.arange(sum(map(len, spoken)))
    out[place] = place[roots]
    return out


def _sketched(
    rows: Iterable[Sequence[str]], frame: frozenset[int], spoken: list[NDArray[np.bool_]]
) -> Iterator[Sketches]:
    """The rows with words, some thousand at a time; `spoken` gets which of all rows these are."""
    remaining = iter(rows)
    while chunk := _next_rows(remaining):
        sketches, has_words = sketch(chunk, frame)
        spoken.append(has_words)
        if has_words.any():
            yield sketches


def _next_rows(remaining: Iterator[Sequence[str]]) -> list[Sequence[str]]:
    chunk: list[Sequence[str]] = []
    letters = 0
    for row in remaining:
        chunk.append(row)
        letters += sum(map(len, row))
        if len(chunk) == _CHUNK or letters >= _CHUNK_LETTERS:
            break
    return chunk


def _stored(
    chunks: Iterator[Banded], bands: int, folder: Path, in_memory: int
) -> BandsInMemory | BandsOnDisk | None:
    held: list[Banded] = []
    for chunk in chunks:
        held.append(chunk)
        shingles = sum(len(part.shingles) for part in held)
        if sum(map(len, held)) > in_memory or shingles > IN_MEMORY_SHINGLES:
            disk = BandsOnDisk(folder, bands)
            for part in chain(held, chunks):
                disk.add(part)
            disk.close()
            return disk
    return BandsInMemory(joined(held)) if held else None


class Forest:
    """Union-find over rows; the root of a tree is its smallest row."""

    def __init__(self, rows: int) -> None:
        self.parent = np.arange(rows)

    def root(self, row: int) -> int:
        """The root of one row; halves the way there."""
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def roots(self, rows: I64) -> I64:
        """The roots of many rows."""
        found = self.parent[rows]
        while not np.array_equal(above := self.parent[found], found):
            found = above
        return found

    def join(self, left: int, right: int) -> None:
        """Make one tree of the trees of two rows."""
        smaller, larger = sorted((self.root(left), self.root(right)))
        self.parent[larger] = smaller


def _joined_up(found: BandsInMemory | BandsOnDisk, bands: int, similarity: float, rows: int) -> I64:
    """The root of each stored row."""
    forest = Forest(rows)
    first, other = found.twins()
    forest.parent[other] = first
    low = found.shelf.low
    # Of two unrelated bytes one pair in 256 is equal.
    likely = similarity - MARGIN
    needed = int(np.ceil((likely + (1 - likely) / _BYTE) * SLOTS))
    for band in range(bands):
        for left, right in pairs(*found.buckets(band)):
            for start in range(0, len(left), _CHECKED_AT_ONCE):
                some = slice(start, start + _CHECKED_AT_ONCE)
                a, b = left[some], right[some]
                apart = forest.roots(a) != forest.roots(b)
                a, b = a[apart], b[apart]
                hopeful = np.count_nonzero(low[a] == low[b], axis=1) >= needed
                for one, two in zip(a[hopeful].tolist(), b[hopeful].tolist(), strict=True):
                    if forest.root(one) != forest.root(two) and _alike(
                        found.shelf, one, two, similarity
                    ):
                        forest.join(one, two)
    return forest.roots(np.arange(rows))


def _alike(shelf: Shelf, one: int, two: int, similarity: float) -> bool:
    """Whether each text is like its counterpart, by the exact index."""
    both = zip(shelf.sets(one), shelf.sets(two), strict=True)
    return all(len(a & b) >= similarity * len(a | b) for a, b in both)
