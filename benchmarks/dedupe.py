"""Near-duplicates among many texts: rows a second, peak memory, recall and precision.

    python benchmarks/dedupe.py                        # 100,000 rows of 200 words
    python benchmarks/dedupe.py --rows 1000000
    python benchmarks/dedupe.py --in-memory 1000000    # without Parquet and DuckDB

One row in ten is a copy of an earlier one, in which a share of the words (1 to 20 %) is replaced,
removed or joined by another. Words are drawn from 50,000 by Zipf's law, so that unrelated rows
share shingles too. Rows are made while they are read: the memory is that of the search. Recall is
the share of copies that are in the cluster of their original, precision that of the clustered rows
whose exact Jaccard index with another row of their family reaches the threshold.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

VOCABULARY, BLOCK, COPIES = 50_000, 1_000, 100
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Corpus:
    """Rows that are a function of their number: blocks of originals, then copies of originals."""

    rows: int
    length: int = 200

    def texts(self) -> Iterator[tuple[str]]:
        """All rows in order."""
        for block in range(-(-self.rows // BLOCK)):
            originals = self.block(block)
            for at in range(min(BLOCK, self.rows - block * BLOCK)):
                copied = at >= BLOCK - COPIES
                yield (self.copy(block, at) if copied else joined(originals[at]),)

    @lru_cache(maxsize=4)  # noqa: B019 - one corpus lives as long as the program
    def block(self, block: int) -> Any:
        """The words of a block's originals, as numbers."""
        rng = np.random.default_rng([1, block])
        shares = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        drawn = rng.random((BLOCK - COPIES, self.length)) * shares[-1]
        return np.searchsorted(shares, drawn)

    def origin(self, block: int, at: int) -> tuple[int, int]:
        """(block, place) of the original that a copy is made of: in a block long before."""
        return block // 2, (at * 8 + block) % (BLOCK - COPIES)

    def copy(self, block: int, at: int) -> str:
        """The text of a copy."""
        source, place = self.origin(block, at)
        rng = np.random.default_rng([2, block, at])
        words = self.block(source)[place].tolist()
        rate = self.rate(at)
        out: list[int] = []
        edits = rng.random(len(words)) < rate
        kinds, others = rng.integers(0, 3, len(words)), rng.integers(0, VOCABULARY, len(words))
        for word, edited, kind, other in zip(words, edits, kinds, others, strict=True):
            if not edited:
                out.append(word)
            elif kind < 2:  # replaced, or joined by another; else removed
                out += [other] if kind == 0 else [word, other]
        return joined(np.array(out))

    def rate(self, at: int) -> float:
        """How much of a copy is edited."""
        return RATES[at % len(RATES)]


WORDS = np.array([f"w{number:x}" for number in range(VOCABULARY)], object)


def joined(words: Any) -> str:
    """The text of word numbers."""
    return " ".join(WORDS[words])


def jaccard(left: str, right: str) -> float:
    """The exact index of two texts, from their words."""
    sets = []
    for text in (left, right):
        said = text.split()
        sets.append({tuple(said[at : at + 3]) for at in range(len(said) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def search(corpus: Corpus, similarity: float, in_memory: int | None) -> tuple[Any, float, float]:
    """(the root of each row, seconds, seconds of processors)."""
    from palate.curate.clusters import IN_MEMORY, find_clusters

    begun, worked = time.perf_counter(), time.process_time()
    limit = IN_MEMORY if in_memory is None else in_memory
    roots = find_clusters(corpus.texts(), similarity, in_memory=limit)
    return roots, time.perf_counter() - begun, time.process_time() - worked


def judge(corpus: Corpus, roots: Any, similarity: float) -> Iterator[str]:
    """The table by edit rate, and what was joined that is not alike."""
    found: dict[float, list[tuple[float, bool]]] = {rate: [] for rate in RATES}
    family = np.arange(corpus.rows)
    for block in range(-(-corpus.rows // BLOCK)):
        for at in range(BLOCK - COPIES, min(BLOCK, corpus.rows - block * BLOCK)):
            source, place = corpus.origin(block, at)
            row, original = block * BLOCK + at, source * BLOCK + place
            family[row] = original
            index = jaccard(joined(corpus.block(source)[place]), corpus.copy(block, at))
            found[corpus.rate(at)].append((index, bool(roots[row] == roots[original])))
    yield "| words edited | copies | Jaccard, mean | recall | recall where alike |\n"
    yield "|---|---|---|---|---|\n"
    for rate, pairs in found.items():
        alike = [hit for index, hit in pairs if index >= similarity]
        recall = f"{sum(alike) / len(alike):.2%} of {len(alike):,}" if alike else "none is"
        mean = sum(index for index, _ in pairs) / len(pairs)
        hits = sum(hit for _, hit in pairs) / len(pairs)
        yield f"| {rate:.0%} | {len(pairs):,} | {mean:.2f} | {hits:.1%} | {recall} |\n"
    strangers = int(np.count_nonzero(family[roots] != family))
    every = [pair for pairs in found.values() for pair in pairs]
    joined_up = [index for index, hit in every if hit]
    right = sum(index >= similarity for index in joined_up)
    yield f"rows joined with a stranger: {strangers}\n"
    yield (
        f"copies joined: {len(joined_up):,}; precision {right / max(1, len(joined_up)):.2%} "
        f"(lowest index {min(joined_up, default=1):.2f})\n"
    )


def main() -> None:
    """Search, and print what was found."""
    parser = argparse.ArgumentParser(description="Near-duplicates among many texts.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--similarity", type=float, default=0.8)
    parser.add_argument("--in-memory", type=int, help="rows up to which the bands stay in memory")
    args = parser.parse_args()
    corpus = Corpus(args.rows, args.words)
    begun, worked = time.perf_counter(), time.process_time()
    for _ in corpus.texts():
        pass
    making, made = time.perf_counter() - begun, time.process_time() - worked
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    roots, seconds, processors = search(corpus, args.similarity, args.in_memory)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    net = seconds - making
    sys.stdout.write(
        f"{args.rows:,} rows of {args.words} words at {args.similarity}: {net:.1f} s, "
        f"{args.rows / net:,.0f} rows/s, {processors - made:.1f} s of processors (and {making:.1f} "
        f"s to make the rows); peak memory {after:,.0f} MiB, {before:,.0f} MiB before\n"
    )
    sys.stdout.writelines(judge(corpus, roots, args.similarity))


if __name__ == "__main__":
    main()
