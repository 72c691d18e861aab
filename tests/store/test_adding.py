"""Each interaction once: by its ids, by what was said, and whatever came first."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.store.arrivals import chat, signal

from palate.records import Arrival, Message, Verdict
from palate.store.adding import Added
from palate.store.database import Store
from palate.store.reading import counts, find, stored


def added(store: Store, *arrivals: Arrival, source: str = "log") -> Added:
    return store.add(arrivals, source)


def test_the_same_rows_twice_add_nothing(store: Store) -> None:
    rows = [
        chat("a?", "yes", ids=("openai:1",), label=True, line=1),
        chat("b?", "no", label=False, line=2),
        chat("c?", "x", "y", verdict=Verdict(1, 0, "vote", 0.5), line=3),
    ]
    assert added(store, *rows) == Added(new=3, events=3)
    assert added(store, *rows) == Added(known=3)
    assert counts(store) == {"interactions": 3, "erased": 0, "thumb": 2, "vote": 1}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        # Without ids what was said decides.
        ((), (), True),
        (("openai:1",), (), True),
        ((), ("openai:1",), True),
        # An id in common decides, whatever else differs.
        (("openai:1",), ("openai:1",), True),
        (("openai:1", "langfuse:t1"), ("langfuse:t1",), True),
        # Two exports, each with ids of its own: nothing tells the two apart.
        (("langfuse:t1",), ("helicone:r1",), True),
        (("langfuse:trace/1",), ("langfuse:observation/2",), True),
        (("langfuse:trace/1",), ("langfuse:trace/2",), False),
        # Ids of one kind that differ: two users who got the same.
        (("openai:1",), ("openai:2",), False),
        (("openai:1", "langfuse:t1"), ("openai:2",), False),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_two_rows_that_say_the_same(
    store: Store, first: tuple[str, ...], second: tuple[str, ...], same: bool, together: bool
) -> None:
    rows = [chat("a?", "yes", ids=first, line=1), chat("a?", " yes\n", ids=second, line=2)]
    if together:
        total = added(store, *rows)
    else:
        total = added(store, rows[0])
        total += added(store, rows[1])
    assert (total.new, total.known) == ((1, 1) if same else (2, 0))
    for name in {*first, *second}:
        assert find(store, name).example.completions[0].text.strip() == "yes"


def test_the_same_id_with_another_text_is_the_first_text(store: Store) -> None:
    added(store, chat("a?", "yes", ids=("openai:1",)))
    added(store, chat("a?", "yes, redacted", ids=("openai:1",)))
    assert [one.example.completions[0].text for one in stored(store)] == ["yes"]


@pytest.mark.parametrize("change", ["prompt", "answer", "turn", "count"])
def test_what_differs_is_another_interaction(store: Store, change: str) -> None:
    other = {
        "prompt": chat("b?", "yes"),
        "answer": chat("a?", "yes."),
        "turn": chat("a?", "yes", before=(Message("system", "Be brief."),)),
        "count": chat("a?", "yes", "yes"),
    }[change]
    assert added(store, chat("a?", "yes"), other).new == 2


def test_a_thumb_counts_once_for_each_interaction_and_each_voice(store: Store) -> None:
    mine = chat("a?", "yes", ids=("openai:1", "langfuse:t1"), label=True, time="2026-01-01")
    again = chat("a?", "yes", ids=("langfuse:t1",), label=True, time="2026-01-02", line=7)
    added(store, mine)
    assert added(store, again).events == 0, "another export of the same interaction"
    assert added(store, chat("b?", "x", label=True, line=1, time="2026-01-01")).events == 1
    assert added(store, chat("b?", "x", label=True, line=2, time="2026-01-02")).events == 1
    assert counts(store)["thumb"] == 3, "without ids each row is a voice"


def test_every_sighting_is_kept(store: Store) -> None:
    added(store, chat("a?", "yes", line=3, time="2026-01-01T10:00:00+02:00"), source="one")
    added(store, chat("a?", "yes", line=9), source="two")
    (one,) = stored(store)
    places = [(p.source, p.line, p.time) for p in one.example.provenance]
    assert places == [("one", 3, "2026-01-01T08:00:00+00:00"), ("two", 9, None)]
    assert all(p.hash for p in one.example.provenance)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_signal_finds_its_answer_whichever_came_first(store: Store, order: tuple[int]) -> None:
    rows = [
        chat("a?", "yes", ids=("openai:1",)),
        signal("openai:1", "thumb", label=False, by="ann"),
        signal("langfuse:9", "edit", edit=(Message("assistant", "Yes."),)),
    ]
    for index in order:
        added(store, rows[index])
    assert counts(store) == {"interactions": 1, "erased": 0, "thumb": 1, "waiting": 1}
    (one,) = stored(store)
    assert [(s.kind, s.label, s.by) for s in one.signals] == [("thumb", False, "ann")]
    added(store, chat("a?", "yes", ids=("openai:1", "langfuse:9")))
    assert counts(store)["edit"] == 1
    (one,) = stored(store)
    assert next(s.edit for s in one.signals if s.kind == "edit")[0].content == "Yes."


def test_signals_twice_add_nothing(store: Store) -> None:
    row = signal("openai:1", "thumb", label=False)
    assert added(store, row).waiting == 1
    assert added(store, row).events == 0
    added(store, chat("a?", "yes", ids=("openai:1",)))
    assert added(store, row).events == 0
    assert counts(store)["thumb"] == 1


def test_the_order_of_reading_is_that_of_time_whatever_came_first(store: Store) -> None:
    times = ["2026-01-01T11:00:00+02:00", "2026-01-01T10:00:00Z", "2026-01-02", None]
    rows = [chat(f"{i}?", "yes", time=time) for i, time in enumerate(times)]
    added(store, *reversed(rows))
    asked = [one.example.prompt[0].content for one in stored(store)]
    assert asked == ["0?", "1?", "2?", "3?"]


def test_users_tell_apart_what_was_said_to_both(store: Store) -> None:
    rows = [
        chat("a?", "yes", user="ann", ids=("openai:1",)),
        chat("a?", "yes", user="bob", line=2),
        chat("a?", "yes", user="carl", ids=("langfuse:trace/7",), line=3),
        chat("a?", "yes", user="bob", line=4),
        chat("a?", "yes", line=5),
    ]
    total = added(store, *rows)
    assert (total.new, total.known) == (3, 2)
    assert sorted(one.user or "" for one in stored(store)) == ["ann", "bob", "carl"]


@pytest.mark.parametrize("together", [True, False])
def test_a_later_export_takes_back_what_an_earlier_one_said(store: Store, together: bool) -> None:
    said = [None, True, False]
    rows = [chat("a?", "yes", ids=("openai:1",), label=label, line=7) for label in said]
    if together:
        added(store, *rows)
    else:
        for row in rows:
            added(store, row)
    assert counts(store)["thumb"] == 1
    (one,) = stored(store)
    assert [s.label for s in one.signals] == [False]


def test_a_persons_changes_of_mind_are_kept_in_their_order(store: Store) -> None:
    added(store, chat("a?", "yes", ids=("openai:1",)))
    for line, label in enumerate((True, False, True)):
        time = f"2026-01-0{line + 1}"
        added(store, signal("openai:1", "thumb", label=label, by="ann", line=line, time=time))
    (one,) = stored(store)
    assert [s.label for s in one.signals] == [True, False, True]


def test_a_zero_byte_which_postgresql_cannot_hold(store: Store) -> None:
    row = chat("a\0?", "y\0es", ids=("openai:1\0",), user="an\0n", time="no\0w", label=True)
    said = signal("openai:1\0", "thumb", label=False, by="e\0ve", comment="\0")
    assert added(store, said).waiting == 1
    assert added(store, row).new == 1
    (one,) = stored(store)
    assert (one.example.prompt[0].content, one.example.completions[0].text) == ("a\0?", "y\0es")
    assert (one.user, one.example.provenance[0].time) == ("an\ufffdn", "no\ufffdw")
    assert sorted(s.by or "" for s in one.signals) == ["", "e\0ve"]


def test_any_order_gives_the_same_where_ids_tell_apart(tmp_path: Path) -> None:
    """As docs/store.md says: the interactions, their events, and all sightings of each."""
    rows = [
        chat("a?", "yes", ids=("openai:1",), label=True, line=1),
        chat("a?", "yes", ids=("openai:1", "langfuse:observation/1"), line=2),
        chat("a?", "yes", ids=("openai:2",), line=3),
        signal("langfuse:observation/1", "thumb", label=False, by="ann"),
        chat("b?", "no", line=5),
    ]
    for number, order in enumerate(itertools.permutations(rows)):
        with Store.open(tmp_path / f"{number}.db") as store:
            for row in order:
                added(store, row)
            found = {one.id: one for one in stored(store)}
            assert find(store, "openai:1").id in found
        said = [
            (
                one.example.prompt[0].content,
                [(s.kind, s.label, s.by) for s in one.signals],
                {p.line for p in one.example.provenance},
            )
            for one in found.values()
        ]
        assert sorted(said, key=str) == [
            ("a?", [("thumb", False, "ann"), ("thumb", True, None)], {1, 2}),
            ("a?", [], {3}),
            ("b?", [], {5}),
        ]


def test_order_decides_where_only_words_join(store: Store) -> None:
    """The limit that docs/store.md states: what joins two comes last, or comes first."""
    first = chat("a?", "yes", ids=("openai:1",), line=1)
    other = chat("a?", "yes", ids=("langfuse:observation/7",), line=2)
    both = chat("a?", "yes", ids=("openai:2", "langfuse:observation/7"), line=3)
    assert added(store, first, other, both).new == 1
    renamed = [
        chat("z?", "yes", ids=tuple(f"{name}z" for name in names), line=line)
        for line, names in enumerate(
            (("openai:2", "langfuse:observation/7"), ("langfuse:observation/7",), ("openai:1",))
        )
    ]
    assert added(store, *renamed).new == 2
