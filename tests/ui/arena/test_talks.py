"""Conversations that are kept: so many in all, and of one person."""

from __future__ import annotations

from palate.ui.arena.talks import Talk, Talks


def test_who_begins_many_conversations_drops_their_own_and_nobody_elses() -> None:
    talks = Talks(most=6, of_one=2)
    others = [talks.add(Talk("ann")), talks.add(Talk("bob"))]
    mine = [talks.add(Talk("mallory")) for _ in range(20)]
    for one in others:
        assert talks.find(one.id, one.owner) is one
    assert [talks.find(one.id, "mallory") for one in mine] == [None] * 18 + mine[-2:]


def test_the_one_that_rested_longest_goes_first() -> None:
    talks = Talks(most=3, of_one=2)
    first, second = talks.add(Talk("ann")), talks.add(Talk("ann"))
    assert talks.find(first.id, "ann") is first
    third = talks.add(Talk("ann"))
    assert talks.find(second.id, "ann") is None
    kept = [talks.add(Talk(name)) for name in ("bob", "cleo")]
    assert talks.find(first.id, "ann") is None, "three in all"
    assert all(talks.find(one.id, one.owner) is one for one in (third, *kept))
    assert talks.find(third.id, "bob") is None, "everybody sees their own"
