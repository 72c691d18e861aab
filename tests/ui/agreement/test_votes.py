"""Events of the store as votes."""

from __future__ import annotations

from tests.ui.agreement.worlds import World

from palate.ui.agreement.votes import read_votes, state_of


def test_events_become_votes_in_their_order(world: World) -> None:
    world.say(
        *("0 ann A ba 1.0", "0 bob B ab 0.75 too long", "1 ann = ab", "1 bob bad ba"),
        *("2 judge/x B", "3 ? A ab"),
        *("1 ann up", "1 bob down"),
    )
    found = read_votes(world.store)
    item = f"{world.id('pair-0')}.0.1"
    first = found.pairs[0]
    assert (first.item, first.places) == (item, (0, 1))
    assert [(v.vote.by, v.vote.word, v.vote.step, v.vote.shown) for v in found.pairs] == [
        ("ann", "first", 1.0, "second"),
        ("bob", "second", -0.5, "first"),
        ("ann", "tie", 0.0, "first"),
        ("bob", "both bad", None, "second"),
        ("judge/x", "second", None, None),
    ]
    assert found.pairs[1].comment == "too long"
    said = {(v.vote.by, v.vote.word): v.item for v in found.singles}
    assert set(said) == {("ann", "up"), ("bob", "down"), ("customer", "up")}
    assert said["ann", "up"] == f"{world.id('single-1')}.0"
    assert (found.unnamed, found.settled) == (1, {})


def test_both_bad_without_places_is_about_what_else_was_compared(world: World) -> None:
    world.say("0 ann bad", "1 ann bad", "1 bob A")
    found = read_votes(world.store)
    assert [(v.interaction, v.vote.word) for v in found.pairs] == [
        (world.id("pair-1"), "both bad"),
        (world.id("pair-1"), "first"),
    ]


def test_the_state_changes_with_each_vote(world: World) -> None:
    before = state_of(world.store)
    assert state_of(world.store) == before
    world.say("0 ann A ab")
    assert state_of(world.store) != before
