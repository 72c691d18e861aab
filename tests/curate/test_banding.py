"""Bands, their two places, and the candidates that they bring."""

import numpy as np
import pytest

from palate.curate import banding
from palate.curate.banding import Banded, BandsInMemory, BandsOnDisk, bands_for, pairs
from palate.curate.shingles import SLOTS


@pytest.mark.parametrize(
    ("similarity", "bands", "slots"),
    [
        # 1 − (1 − 0.5³)⁴² = 0.996; four slots would leave 1 − (1 − 0.5⁴)³² = 0.873.
        (0.5, 42, 3),
        # 1 − (1 − 0.8⁶)²¹ = 0.998; seven would leave 1 − (1 − 0.8⁷)¹⁸ = 0.986.
        (0.8, 21, 6),
        (1.0, 1, 128),
    ],
)
def test_the_longest_bands_that_miss_next_to_nothing(similarity, bands, slots):
    assert bands_for(similarity) == (bands, slots)


def _rows(count, bands, seed):
    """Few distinct keys and contents, so that both repeat; equal contents have equal keys."""
    rng = np.random.default_rng(seed)
    content = rng.integers(0, count // 2, count).astype(np.uint64)
    kinds = rng.integers(0, count // 4, (count // 2, bands)).astype(np.uint64)
    # Beyond 2⁶³, where a signed number would turn over.
    keys = kinds[content.astype(int)] + np.uint64(2**63)
    lengths = rng.integers(1, 4, (count, 2))
    shingles = rng.integers(0, 2**32, lengths.sum()).astype(np.uint32)
    low = rng.integers(0, 256, (count, SLOTS)).astype(np.uint8)
    return Banded(content, keys, low, shingles, lengths)


def _cut(rows, begin, end):
    """Some of the rows."""
    first, last = rows.lengths[:begin].sum(), rows.lengths[:end].sum()
    some = slice(begin, end)
    return Banded(
        rows.content[some],
        rows.keys[some],
        rows.low[some],
        rows.shingles[first:last],
        rows.lengths[some],
    )


@pytest.mark.parametrize("seed", range(3))
def test_memory_and_disk_answer_the_same(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(banding, "_ROW_GROUP", 37)
    rows = _rows(200, bands=4, seed=seed)
    memory = BandsInMemory(rows)
    disk = BandsOnDisk(tmp_path, 4)
    for begin in range(0, 200, 20):
        disk.add(_cut(rows, begin, begin + 20))
    disk.close()
    assert disk.written == 200
    assert (disk.shelf.low == memory.shelf.low).all()
    assert all(disk.shelf.sets(row) == memory.shelf.sets(row) for row in range(200))
    for mine, theirs in zip(memory.twins(), disk.twins(), strict=True):
        assert mine.tolist() == theirs.tolist()
    for band in range(4):
        keys, found = memory.buckets(band)
        assert len(found)
        assert [keys.tolist(), found.tolist()] == [a.tolist() for a in disk.buckets(band)]
    disk.finish()


def test_twins_and_buckets_by_hand():
    content = np.array([7, 9, 7, 8, 7], np.uint64)
    keys = np.array([[1], [1], [1], [2], [1]], np.uint64)
    low = np.zeros((5, SLOTS), np.uint8)
    lengths = np.array([[1], [2], [1], [0], [1]])
    memory = BandsInMemory(Banded(content, keys, low, np.arange(5).astype(np.uint32), lengths))
    first, other = memory.twins()
    assert (first.tolist(), other.tolist()) == ([0, 0], [2, 4])
    # Rows 2 and 4 are told by row 0, and row 3 is alone with its key.
    assert [a.tolist() for a in memory.buckets(0)] == [[1, 1], [0, 1]]
    assert [memory.shelf.sets(row) for row in range(5)] == [[{0}], [{1, 2}], [{3}], [set()], [{4}]]


def test_the_texts_of_a_row_are_kept_apart():
    lengths = np.array([[1, 2], [2, 1]])
    low = np.zeros((2, SLOTS), np.uint8)
    shelf = banding.Shelf(low, np.array([7, 8, 9, 7, 7, 5], np.uint32), lengths)
    assert [shelf.sets(0), shelf.sets(1)] == [[{7}, {8, 9}], [{7}, {5}]]


def _all_pairs(sizes):
    keys = np.repeat(np.arange(len(sizes)), sizes).astype(np.uint64)
    rows = np.arange(len(keys)) + 100
    return [
        (int(a), int(b))
        for left, right in pairs(keys, rows)
        for a, b in zip(left, right, strict=True)
    ]


def test_every_pair_of_a_small_bucket():
    assert sorted(_all_pairs([3, 2])) == [(100, 101), (100, 102), (101, 102), (103, 104)]
    assert _all_pairs([]) == []
    n = banding.SMALL
    assert len(set(_all_pairs([n]))) == len(_all_pairs([n])) == n * (n - 1) // 2


def test_a_large_bucket_brings_few_pairs_that_connect_it():
    """100 rows: the 8 before each (99 + 98 + … + 92 = 764), and the first for the 91 others."""
    found = _all_pairs([100])
    assert len(found) == len(set(found)) == 764 + 91
    assert {b for a, b in found if a == 100} == set(range(101, 200))
