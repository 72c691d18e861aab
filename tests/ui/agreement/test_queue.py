"""What people do not agree about, and the last word on it."""

from __future__ import annotations

import pytest
from tests.ui.agreement.worlds import World

from palate.records import ADJUDICATED
from palate.store.reading import find
from palate.store.settling import settle, unsettle
from palate.ui.agreement.queue import disagreements, last_word, shown_items
from palate.ui.agreement.votes import read_votes


def disputed(world: World) -> list[str]:
    """The interactions of the queue, by their names."""
    names = {world.id(f"pair-{n}"): f"pair-{n}" for n in range(5)}
    names |= {world.id(f"single-{n}"): f"single-{n}" for n in range(3)}
    return [names[voices[0].interaction] for voices in disagreements(read_votes(world.store))]


def test_the_most_evenly_divided_come_first(world: World) -> None:
    world.say(
        *("0 ann A", "0 bob A", "0 eve B"),  # two thirds
        *("1 ann A", "1 bob A"),  # no dispute
        *("2 ann A", "2 bob B"),  # half of two
        *("3 ann A", "3 bob =", "3 eve B", "3 fay A"),  # half of four
        *("4 ann A", "4 judge/x B", "4 ann B"),  # one person, who says it twice
        *("1 ann up", "1 bob down"),
    )
    assert disputed(world)[0] == "pair-3"
    assert set(disputed(world)[1:3]) == {"pair-2", "single-1"}
    assert disputed(world)[3:] == ["pair-0"]


def test_an_item_has_its_answers_and_who_said_what(world: World) -> None:
    world.say("2 judge/x B - 0.8", "2 ann A ba 1.0 it is short", "2 bob B ab")
    (item,) = shown_items(world.store, disagreements(read_votes(world.store)))
    assert item["question"] == "pairs"
    assert item["prompt"] == [{"role": "user", "content": "Question 2?"}]
    assert [m[0]["content"] for m in item["answers"]] == ["Yes, 2.", "No, not 2, never."]
    assert [(v["by"], v["judge"], v["word"], v["comment"]) for v in item["said"]] == [
        ("ann", False, "first", "it is short"),
        ("bob", False, "second", None),
        ("judge/x", True, "second", None),
    ]
    assert "model-a" not in str(item)


def test_the_last_word_takes_an_item_from_the_queue_and_back(world: World) -> None:
    world.say("2 ann A", "2 bob B", "1 ann up", "1 bob down")
    pair, single = world.id("pair-2"), world.id("single-1")
    settle(world.store, pair, (0, 1), last_word((0, 1), "second", "owner"))
    assert disputed(world) == ["single-1"]
    settle(world.store, single, (0,), last_word((0,), "down", "owner"))
    assert disputed(world) == []
    votes = read_votes(world.store)
    assert votes.settled[f"{pair}.0.1"].vote.word == "second"
    assert votes.settled[f"{single}.0"].vote.word == "down"
    assert len(votes.pairs) == 2, "the last word is no vote among votes"
    # Another last word takes the place of the first.
    settle(world.store, pair, (1, 0), last_word((0, 1), "tie", "owner"))
    words = [s for s in find(world.store, pair).signals if s.name == ADJUDICATED]
    assert [(s.kind, s.choice, s.over, s.by) for s in words] == [("tie", 0, 1, "owner")]
    assert unsettle(world.store, pair, (0, 1))
    assert not unsettle(world.store, pair, (0, 1))
    assert disputed(world) == ["pair-2"]
    settle(world.store, pair, (0, 1), last_word((0, 1), "both bad", "owner"))
    assert read_votes(world.store).settled[f"{pair}.0.1"].vote.word == "both bad"


def test_words_that_do_not_fit_are_refused(world: World) -> None:
    for places, word in (((0, 1), "up"), ((0,), "tie"), ((0, 1), ""), ((0, 1), "judge")):
        with pytest.raises(ValueError, match="is no word on such an item"):
            last_word(places, word, "owner")
    with pytest.raises(ValueError, match="not in the store any more"):
        settle(world.store, "0" * 32, (0, 1), last_word((0, 1), "tie", "owner"))
