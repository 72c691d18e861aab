"""The split: by group, deterministic, near the share that was asked for, without leakage."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.curate.split import split
from palate.records import Completion, Example, Message


def _example(prompt, answer="a", **tags):
    return Example(
        (Message("user", prompt),), (Completion((Message("assistant", answer),)),), tags=tags
    )


def _prompts(examples):
    return {example.prompt_key for example in examples}


@pytest.mark.parametrize(
    ("groups", "share", "expected"),
    [(10, 0.1, 1), (100, 0.1, 10), (7, 0.5, 3), (3, 0.01, 1), (2, 0.99, 1)],
)
def test_share_of_prompts(groups, share, expected):
    """7 · 0.5 = 3.5 is as far from 3 as from 4, and the smaller is kept; each side keeps one."""
    rows = [_example(f"{i}", answer) for i in range(groups) for answer in "ab"]
    train, heldout = split(rows, share)
    assert len(_prompts(heldout)) == expected
    assert len(train) + len(heldout) == len(rows)
    assert not _prompts(train) & _prompts(heldout)


def test_the_seed_and_the_groups_decide_not_the_order():
    rows = [_example(f"{i}") for i in range(50)]
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    held = _prompts(split(rows, 0.2, seed=3)[1])
    assert _prompts(split(shuffled, 0.2, seed=3)[1]) == held
    assert _prompts(split(rows, 0.2, seed=4)[1]) != held


def test_both_sides_keep_the_order_of_the_rows():
    rows = [_example(f"{i}") for i in range(30)]
    for side in split(rows, 0.3):
        assert side == [row for row in rows if row in side]


def test_no_share_holds_out_nothing():
    rows = [_example("one")]
    assert split(rows, 0) == (rows, [])


def test_whole_tags_are_held_out():
    rows = [
        _example(f"{template} {i}", template=template) for template in "abcde" for i in range(4)
    ]
    train, heldout = split(rows, 0.2, "tag:template")
    assert len(heldout) == 4
    assert len({row.tags["template"] for row in heldout}) == 1
    assert len({row.tags["template"] for row in train}) == 4


def test_tags_of_unequal_size_come_near_the_share():
    sizes = {"big": 60, "a": 10, "b": 10, "c": 10, "d": 10}
    rows = [_example(f"{t} {i}", t=t) for t, size in sizes.items() for i in range(size)]
    for seed in range(10):
        # 100 prompts, 20 wanted: `big` alone would miss it by 40, so it is never taken.
        assert len(split(rows, 0.2, "tag:t", seed=seed)[1]) == 20


def test_named_values_are_held_out_exactly():
    rows = [_example(f"{i}", t="abc"[i % 3]) for i in range(9)]
    train, heldout = split(rows, 0.1, "tag:t", ["b", "c"])
    assert {row.tags["t"] for row in train} == {"a"}
    assert len(heldout) == 6


@pytest.mark.parametrize("values", [None, ["a"], ["b"]])
def test_a_prompt_under_two_tags_is_never_on_both_sides(values):
    rows = [_example("same", "x", t="a"), _example("same", "y", t="b")]
    rows += [_example(f"{t} {i}", t=t) for t in "abcd" for i in range(3)]
    train, heldout = split(rows, 0.3, "tag:t", values)
    assert not _prompts(train) & _prompts(heldout)
    assert heldout
    if values is not None:  # the prompt that `values` shares is held out whole
        assert {row.completions[0].text for row in heldout if len(row.prompt[0].content) == 4} == {
            "x",
            "y",
        }
    if values is None:  # a and b count as one group
        held = {row.tags["t"] for row in heldout}
        assert ("a" in held) == ("b" in held)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"by": "tag:tmeplate"}, "3 of 3 examples lack it; the tags are only, some, template"),
        ({"by": "tag:some"}, "2 of 3 examples lack it"),
        ({"by": "row"}, "cannot split by 'row'"),
        ({"heldout_values": ["a"]}, "needs data.split_by=tag:NAME"),
        ({"heldout_values": ["a"], "by": "cluster"}, "needs data.split_by=tag:NAME"),
        ({"by": "tag:template", "heldout_values": ["z"]}, "no example has the tag:template 'z'"),
        ({"by": "tag:template", "heldout_values": ["a", "b"]}, "nothing is left for training"),
        ({"by": "tag:only"}, "set data.heldout=0"),
    ],
)
def test_what_cannot_be_split_is_said(arguments, said):
    rows = [
        _example("1", template="a", only="x", some="x"),
        _example("2", template="b", only="x"),
        _example("3", template="b", only="x"),
    ]
    with pytest.raises(ValueError, match=said):
        split(rows, 0.5, **arguments)


LIKE = "please write a short poem about the sea in the manner of my old teacher number"


def test_near_duplicates_are_on_one_side():
    """20 prompts that differ in their last word, and 60 that are like no other."""
    rows = [_example(f"{LIKE} {i}", t="like") for i in range(19)]
    rows += [_example(f"{i} is a number of its own {i * i}", t="other") for i in range(60)]
    for seed in range(20):
        train, heldout = split(rows, 0.1, "cluster", seed=seed)
        kinds = [{row.tags["t"] == "like" for row in side} for side in (train, heldout)]
        assert kinds[0] == {True, False}
        assert kinds[1] == {False}
        assert len(heldout) == 8
        assert split(rows[::-1], 0.1, "cluster", seed=seed)[1][::-1] == heldout
    assert any(
        {row.tags["t"] for row in split(rows, 0.1, "prompt", seed=seed)[1]} == {"like", "other"}
        for seed in range(20)
    )


def test_where_nothing_is_alike_the_split_is_that_by_prompt():
    rows = [_example(f"{i} is a number of its own {i * i}", a) for i in range(40) for a in "ab"]
    for seed in range(5):
        by_prompt = split(rows, 0.2, "prompt", seed=seed)
        assert split(rows, 0.2, "cluster", seed=seed) == by_prompt


def test_clusters_are_not_looked_for_in_vain(monkeypatch):
    monkeypatch.setattr("palate.curate.near_duplicates.prompt_groups", None)
    rows = [_example("1"), _example("2")]
    assert split(rows, 0, "cluster") == (rows, [])
    assert len(split(rows, 0.5, "prompt")[1]) == 1


def test_one_cluster_cannot_be_divided():
    rows = [_example(f"{LIKE} {i}") for i in range(4)]
    with pytest.raises(ValueError, match=r"1 group \(split by cluster\).*something finer"):
        split(rows, 0.5, "cluster")
    assert split(rows, 0, "cluster") == (rows, [])
    assert len(split(rows, 0.5, "prompt")[1]) == 2


def test_rows_without_any_tag():
    with pytest.raises(ValueError, match="no row has any tag"):
        split([_example("1"), _example("2")], 0.5, "tag:x")


def test_one_group_cannot_be_divided():
    with pytest.raises(ValueError, match=r"data\.heldout=0"):
        split([_example("1", "a"), _example("1", "b")], 0.5)


@settings(max_examples=60, deadline=None, database=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=40),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
    by=st.sampled_from(["prompt", "cluster", "tag:t"]),
)
def test_no_leakage_ever(rows, share, seed, by):
    examples = [_example(f"{prompt}", t=f"{tag}") for prompt, tag in rows]
    try:
        train, heldout = split(examples, share, by, seed=seed)
    except ValueError as error:
        assert "set data.heldout=0" in str(error)  # noqa: PT017 - one group is a legal draw
        return
    assert train
    assert heldout
    assert not _prompts(train) & _prompts(heldout)
    if by == "tag:t":
        assert not {e.tags["t"] for e in train} & {e.tags["t"] for e in heldout}
    assert split(examples[::-1], share, by, seed=seed)[1][::-1] == heldout


@settings(max_examples=60, deadline=None, database=None)
@given(
    prompts=st.lists(st.integers(0, 20), min_size=2, max_size=40),
    known=st.dictionaries(st.integers(0, 25), st.booleans()),
    share=st.floats(0.01, 0.99),
)
def test_known_prompts_are_on_their_side(prompts, known, share):
    examples = [_example(f"{prompt}") for prompt in prompts]
    sides = {_example(f"{prompt}").prompt_key: side for prompt, side in known.items()}
    try:
        train, heldout = split(examples, share, known=sides)
    except ValueError as error:
        words = str(error)
        assert "data.heldout=0" in words or "an earlier stage" in words
        return
    assert len(train) + len(heldout) == len(examples)
    assert all(not sides.get(e.prompt_key) for e in train)
    assert all(sides.get(e.prompt_key, True) for e in heldout)


def test_where_all_prompts_are_known_to_be_on_one_side():
    rows = [_example("1"), _example("2"), _example("3")]
    for held, said in (
        (False, "held-out part: an earlier stage trained on all"),
        (True, "training: an earlier stage held out all"),
    ):
        with pytest.raises(ValueError, match=said):
            split(rows, 0.4, known={row.prompt_key: held for row in rows})


def test_without_a_held_out_part_everything_is_trained_on():
    rows = [_example("1"), _example("2")]
    assert split(rows, 0, known={rows[0].prompt_key: True}) == (rows, [])


@pytest.mark.parametrize("held", [True, False])
def test_near_duplicates_follow_a_known_prompt(held):
    """What an earlier stage held out is not trained on in other words, nor the other way round."""
    asked = "where in the wide world is my parcel and when will it come to"
    rows = [_example(f"{asked} us"), _example(f"{asked} you")]
    rows += [_example(f"number {i} of {i + 1}") for i in range(20)]
    for seed in range(4):
        train, heldout = split(rows, 0.2, "cluster", seed=seed, known={rows[0].prompt_key: held})
        side = heldout if held else train
        assert rows[0] in side
        assert rows[1] in side


def test_what_was_trained_on_stays_so_in_a_group_with_a_held_out_prompt():
    rows = [_example(f"{i}", group="a") for i in range(3)]
    rows += [_example(f"other {i}", group=f"b{i}") for i in range(9)]
    known = {rows[0].prompt_key: True, rows[1].prompt_key: False}
    for seed in range(4):
        train, heldout = split(rows, 0.2, "tag:group", seed=seed, known=known)
        assert rows[1] in train
        assert {rows[0].id, rows[2].id} <= {row.id for row in heldout}
