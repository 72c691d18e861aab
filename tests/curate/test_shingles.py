"""Words, shingles and signatures."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.curate.shingles import SLOTS, common_shingles, hash_words, sketch, windows, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't PANIC, twice!", ["don", "t", "panic", "twice"]),
        ("Straße 12-B", ["straße", "12", "b"]),
        ("cafe\u0301", ["caf\u00e9"]),  # the accent as a character of its own
        ("你好world你", ["你", "好", "world", "你"]),
        ("ひらがな", list("ひらがな")),
        ("  \n—…", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_runs_of_words_keep_to_their_text():
    hashes, counts = hash_words(["a b c d", "c d", "B, C, D", ""])
    assert counts.tolist() == [4, 2, 3, 0]
    runs, owner = windows(hashes, counts, 3)
    assert owner.tolist() == [0, 0, 2]  # abc, bcd; nothing; bcd
    assert runs[1] == runs[2] != runs[0]


@settings(max_examples=200, deadline=None, database=None)
@given(texts=st.lists(st.text(max_size=30) | st.text("aB_ -é漢", max_size=12), max_size=6))
def test_words_are_hashed_alike_however_they_are_written(texts):
    """ASCII texts go another way than others, and both must say what `words` says."""
    hashes, counts = hash_words(texts)
    split = [words(text) for text in texts]
    assert counts.tolist() == [len(said) for said in split]
    flat = [word for said in split for word in said]
    assert len(hashes) == len(flat)
    assert len(set(hashes.tolist())) == len(set(flat))
    assert len(set(zip(hashes.tolist(), flat, strict=True))) == len(set(flat))


def test_a_word_has_one_hash_in_any_batch(monkeypatch):
    texts = ["The bird", "the bird — sings", "x" * 500, "", "Bird!"]
    whole, counts = hash_words(texts)
    monkeypatch.setattr("palate.curate.shingles._BATCH", 10)
    assert hash_words(texts)[0].tolist() == whole.tolist()
    assert hash_words(texts)[1].tolist() == counts.tolist() == [2, 3, 1, 0, 1]
    assert whole[0] == whole[2]
    assert whole[1] == whole[3] == whole[6]


def test_the_order_of_words_counts():
    runs, _ = windows(*hash_words(["a b", "b a"]), 2)
    assert runs[0] != runs[1]


@settings(max_examples=50, deadline=None, database=None)
@given(
    texts=st.lists(st.text(alphabet="ab ", max_size=12), min_size=1, max_size=6),
    size=st.integers(1, 4),
)
def test_runs_are_equal_where_the_words_are(texts, size):
    runs, owner = windows(*hash_words(texts), size)
    split = [words(text) for text in texts]
    expected = [
        (number, tuple(said[i : i + size]))
        for number, said in enumerate(split)
        for i in range(len(said) - size + 1)
    ]
    assert owner.tolist() == [number for number, _ in expected]
    assert len(set(runs.tolist())) == len({run for _, run in expected})
    assert len({*zip(runs.tolist(), (run for _, run in expected), strict=True)}) == len(
        set(runs.tolist())
    )


def _numbered(begin, end):
    return " ".join(f"w{i}" for i in range(begin, end))


def _slots(rows):
    return sketch(rows)[0].slots


def test_equal_slots_estimate_the_jaccard_index():
    """Texts of 102 words have 100 shingles; 52 common words are 50 of them: 50 / 150 = 1/3.

    The standard error over 40 pairs is at most √(1/3 · 2/3 / 128 / 40) = 0.0066.
    """
    rows = []
    for pair in range(40):
        at = 1000 * pair
        rows += [(_numbered(at, at + 102),), (_numbered(at + 50, at + 152),)]
    slots = _slots(rows)
    assert slots.shape == (80, SLOTS)
    assert np.mean(slots[::2] == slots[1::2]) == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(slots[:-2:2] == slots[2::2]) < 0.001


def _sets(sketches):
    """The shingles of each text of each row."""
    ends = np.cumsum(sketches.lengths).tolist()
    parts = [set(p.tolist()) for p in np.split(sketches.shingles, ends[:-1])]
    width = sketches.lengths.shape[1]
    return [parts[row * width : (row + 1) * width] for row in range(len(sketches.lengths))]


def test_the_shingles_themselves():
    """abc bcd, and bcd cde, of which one is common; "yes" is filled up to one."""
    found, _ = sketch([("a b c d", "yes"), ("B, C; D e", "Yes!"), ("yes", "a b c d")])
    assert found.lengths.tolist() == [[2, 1], [2, 1], [1, 2]]
    one, two, three = _sets(found)
    assert len(one[0] & two[0]) == 1
    assert len(one[0] | two[0]) == 3
    assert one[1] == two[1]
    assert not one[0] & three[1]  # another place in the row
    assert not one[1] & three[0]


@settings(max_examples=50, deadline=None, database=None)
@given(texts=st.lists(st.text(alphabet="ab ", min_size=1, max_size=14), min_size=2, max_size=5))
def test_the_shingles_are_the_runs_of_three_words(texts):
    found, spoken = sketch([(text,) for text in texts])
    expected = []
    for text in texts:
        said = tuple(text.split())
        runs = {said[i : i + 3] for i in range(len(said) - 2)} or {said}
        expected += [runs] if said else []
    assert int(spoken.sum()) == len(expected)
    sets = [one for (one,) in _sets(found)] if expected else []
    for mine, theirs in zip(sets, expected, strict=True):
        assert len(mine) == len(theirs)
        for other, others in zip(sets, expected, strict=True):
            assert len(mine & other) == len(theirs & others)


def test_a_text_shorter_than_a_shingle_is_one():
    slots = _slots([("yes",), ("Yes.",), ("no",), ("yes no",)])
    assert (slots[0] == slots[1]).all()
    assert (slots[0] != slots[2]).any()
    assert (slots[0] != slots[3]).any()


def test_texts_of_a_row_are_told_apart_and_ordered():
    found, _ = sketch([("a b c", "d e f"), ("d e f", "a b c"), ("A, b c", "d e f")])
    contents = found.content.tolist()
    assert contents[0] == contents[2] != contents[1]
    assert np.mean(found.slots[0] == found.slots[1]) < 0.1
    assert sketch([("a b c d",)])[0].content != sketch([("a b c", "b c d")])[0].content


def test_how_often_a_shingle_comes_is_content():
    found, _ = sketch([("a b c a b c",), ("a b c a b c a b c",)])
    assert (found.slots[0] == found.slots[1]).all()
    assert found.content[0] != found.content[1]


def test_rows_without_words_are_left_out():
    found, spoken = sketch([("", "…"), ("", "x"), (" ", "-")])
    assert spoken.tolist() == [False, True, False]
    assert len(found.slots) == len(found.content) == len(found.lengths) == 1
    nothing, spoken = sketch([("",), ("…",)])
    assert not spoken.any()
    assert (len(nothing.slots), len(nothing.shingles)) == (0, 0)


def test_a_row_is_the_same_whatever_stands_beside_it():
    rows = [(_numbered(0, n), f"w{n}") for n in (1, 2, 3, 50, 200)]
    random.Random(0).shuffle(rows)
    together, _ = sketch([("", ""), *rows])
    for number, row in enumerate(rows):
        alone, _ = sketch([row])
        assert (alone.slots[0] == together.slots[number]).all()
        assert alone.content[0] == together.content[number]
        assert alone.lengths.tolist() == [together.lengths[number].tolist()]
    assert together.lengths.sum() == len(together.shingles)


FRAME = "please classify the following ticket of ours into one of these kinds"


def test_the_frame_of_many_texts():
    """Twelve words are ten shingles; in each text "kinds" and the two words after it are more."""
    texts = [f"{FRAME} {i} {i + 100}" for i in range(10)] + ["something else it is"] * 2
    frame = common_shingles(texts, share=0.5, least=3)
    assert len(frame) == 10
    assert common_shingles(texts, share=0.9, least=3) == frozenset()
    assert common_shingles(texts, share=0.5, least=11) == frozenset()
    assert common_shingles(["a b c a b c a b c"] * 2 + ["x y z"] * 8, 0.3, 1) == common_shingles(
        ["x y z"], 1, 1
    )
    assert common_shingles([], 0.5, 1) == frozenset()


def test_the_frame_is_left_out_of_first_texts():
    frame = common_shingles([FRAME], 1, 1)
    rows = [(f"{FRAME} late parcel", f"{FRAME} late"), (FRAME, FRAME)]
    whole, framed = sketch(rows)[0], sketch(rows, frame)[0]
    assert whole.lengths.tolist() == [[12, 11], [10, 10]]
    # Of a text that is nothing but frame, it stays.
    assert framed.lengths.tolist() == [[2, 11], [10, 10]]
    assert _sets(framed)[0][0] < _sets(whole)[0][0]


@pytest.mark.slow
def test_another_process_finds_the_same():
    code = (
        "from palate.curate.shingles import sketch\n"
        "s, _ = sketch([('to be or not to be', 'that is the question')])\n"
        "print(s.slots.tolist(), s.content.tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    here, _ = sketch([("to be or not to be", "that is the question")])
    assert said == {f"{here.slots.tolist()} {here.content.tolist()}\n"}
