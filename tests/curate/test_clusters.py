"""Clusters of near-duplicates: complete, order-free, the same in memory and on disk."""

import random

import numpy as np
import pytest

from palate.curate import clusters
from palate.curate.clusters import Forest, find_clusters
from palate.curate.shingles import common_shingles

WORDS = [f"w{i}" for i in range(3000)]


def _corpus(originals, copies, edits, seed=0, length=120):
    """(texts, the number of the original behind each): copies differ in `edits` words."""
    rng = random.Random(seed)
    texts, origin = [], []
    for number in range(originals):
        said = rng.choices(WORDS, k=length)
        for copy in range(copies + 1):
            again = said.copy()
            for place in rng.sample(range(length), edits if copy else 0):
                again[place] = rng.choice(WORDS)
            texts.append(" ".join(again))
            origin.append(number)
    return texts, origin


def _rows(texts):
    return [(text,) for text in texts]


def _partition(texts, roots):
    groups = {}
    for text, root in zip(texts, roots.tolist(), strict=True):
        groups.setdefault(root, []).append(text)
    return {frozenset(group) for group in groups.values()}


def test_copies_are_found_and_nothing_else():
    """Two words of 120 in each copy change at most 6 of its 118 shingles, so J ≥ 112/124 = 0.90
    with the original and at least 106/130 = 0.82 among copies."""
    texts, origin = _corpus(originals=40, copies=3, edits=2)
    roots = find_clusters(_rows(texts), 0.8)
    assert roots.tolist() == [4 * number for number in origin]


def test_unrelated_texts_are_alone():
    texts, _ = _corpus(originals=200, copies=0, edits=0)
    assert find_clusters(_rows(texts), 0.5).tolist() == list(range(200))


def test_what_is_less_alike_than_asked_is_apart():
    """40 words of 120 leave at most 118 − 40 shingles, if all touch: J well below 0.5."""
    texts, _ = _corpus(originals=20, copies=1, edits=40)
    assert find_clusters(_rows(texts), 0.8).tolist() == list(range(40))


@pytest.mark.parametrize("in_memory", [0, 10_000])
def test_the_order_of_the_rows_does_not_matter(in_memory):
    texts, _ = _corpus(originals=30, copies=4, edits=6, seed=1)
    expected = _partition(texts, find_clusters(_rows(texts), 0.7))
    assert 30 <= len(expected) < 150
    for seed in range(2):
        shuffled = texts.copy()
        random.Random(seed).shuffle(shuffled)
        roots = find_clusters(_rows(shuffled), 0.7, in_memory=in_memory)
        assert _partition(shuffled, roots) == expected
        assert all(root <= row for row, root in enumerate(roots.tolist()))
        assert (roots[roots] == roots).all()


def test_memory_and_disk_find_the_same(monkeypatch):
    monkeypatch.setattr(clusters, "_CHUNK", 16)
    texts, _ = _corpus(originals=25, copies=3, edits=7, seed=2)
    texts += [*texts[:10], "", "…", "short", "Short!"]
    rows = _rows(texts)
    mine, theirs = find_clusters(rows, 0.6), find_clusters(rows, 0.6, in_memory=20)
    assert mine.tolist() == theirs.tolist()
    assert mine.tolist() != list(range(len(rows)))


def test_rows_without_words_are_alone_and_equal_rows_together():
    roots = find_clusters(_rows(["", "a b c d", " ", "A, b; c d!", "a b c e"]), 0.8)
    assert roots.tolist() == [0, 1, 2, 1, 4]


def test_no_rows_at_all():
    assert find_clusters([], 0.8).tolist() == []
    assert find_clusters([("",), (" ",)], 0.8).tolist() == [0, 1]


def _jaccard(left, right):
    sets = []
    for text in (left, right):
        said = text.split()
        sets.append({tuple(said[i : i + 3]) for i in range(len(said) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("in_memory", [0, 10_000])
def test_what_is_joined_is_alike_by_the_exact_index(in_memory):
    """Pairs around the threshold: none below is joined, and of those above hardly one is lost."""
    texts = [t for edits in range(2, 8) for t in _corpus(25, 1, edits, seed=edits)[0]]
    exact = [_jaccard(*texts[at : at + 2]) for at in range(0, 300, 2)]
    threshold = sorted(exact)[75]
    assert sum(threshold - 0.05 < index < threshold for index in exact) >= 20
    roots = find_clusters(_rows(texts), threshold, in_memory=in_memory).tolist()
    hits = [roots[at] == roots[at + 1] for at in range(0, 300, 2)]
    assert not any(hit for hit, index in zip(hits, exact, strict=True) if index < threshold)
    assert sum(hits) >= 0.97 * sum(index >= threshold for index in exact)


def test_each_text_of_a_row_must_be_alike():
    (long, near), _ = _corpus(originals=1, copies=1, edits=1)
    rows = [(long, "yes"), (near, "no"), (near, "Yes!"), ("yes", long)]
    assert find_clusters(rows, 0.8).tolist() == [0, 1, 0, 3]


def test_a_frame_makes_nothing_alike():
    rng = random.Random(6)
    said = rng.choices(WORDS, k=80)
    rows = [(" ".join([*said, *rng.choices(WORDS, k=12)]),) for _ in range(30)]
    assert set(find_clusters(rows, 0.5).tolist()) == {0}
    frame = common_shingles([text for (text,) in rows], 0.5, 2)
    assert find_clusters(rows, 0.5, frame).tolist() == list(range(30))


def test_a_chain_is_one_cluster():
    """Each text is the one before with the next 4 of its 100 words changed: J = 93/103 ≈ 0.9 for
    neighbours (98 shingles, a block of 4 words touches 6 or fewer), and 0 for the ends."""
    rng = random.Random(3)
    said = rng.sample(WORDS, 100)
    texts = []
    for begin in range(0, 101, 4):
        texts.append(" ".join(said))
        said[begin : begin + 4] = rng.sample(WORDS, len(said[begin : begin + 4]))
    roots = find_clusters(_rows(texts), 0.75)
    assert set(roots.tolist()) == {0}


def test_thousands_of_one_template_are_one_cluster():
    """More rows in a bucket than are compared all with all."""
    rng = random.Random(4)
    frame = rng.sample(WORDS, 60)
    texts = [" ".join([*frame[:30], f"order{i}", *frame[30:]]) for i in range(1500)]
    assert set(find_clusters(_rows(texts), 0.8).tolist()) == {0}


def test_the_temporary_folder_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    texts, _ = _corpus(originals=5, copies=1, edits=1)
    find_clusters(_rows(texts), 0.8, in_memory=2)
    assert list(tmp_path.iterdir()) == []


def test_rows_may_come_from_a_generator():
    texts, origin = _corpus(originals=5, copies=1, edits=1)
    roots = find_clusters(((text,) for text in texts), 0.8)
    assert roots.tolist() == [2 * number for number in origin]


def test_the_root_of_a_tree_is_its_smallest_row():
    forest = Forest(6)
    for left, right in ((4, 5), (3, 4), (1, 2), (5, 1)):
        forest.join(left, right)
    assert forest.roots(np.arange(6)).tolist() == [0, 1, 1, 1, 1, 1]
    assert forest.root(5) == 1


def test_long_texts_are_read_few_at_a_time_and_go_to_the_disk(monkeypatch):
    texts, _ = _corpus(originals=6, copies=1, edits=2)
    expected = find_clusters(_rows(texts), 0.8).tolist()
    sizes, disks = [], []
    sketch, disk = clusters.sketch, clusters.BandsOnDisk
    monkeypatch.setattr(
        clusters, "sketch", lambda rows, frame: sizes.append(len(rows)) or sketch(rows, frame)
    )
    monkeypatch.setattr(clusters, "BandsOnDisk", lambda *a: disks.append(disk(*a)) or disks[-1])
    monkeypatch.setattr(clusters, "_CHUNK_LETTERS", len(texts[0]) + 1)
    monkeypatch.setattr(clusters, "IN_MEMORY_SHINGLES", 500)
    assert find_clusters(_rows(texts), 0.8).tolist() == expected
    assert max(sizes) == 2
    assert sum(sizes) == 12
    assert len(disks) == 1
