"""Words of annotators: one for each item and round, changed, taken back, and never lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.store.arrivals import chat, signal

from palate.curate.signals import Judged, settle
from palate.records import Message, Verdict
from palate.store.database import Store, StoreError
from palate.store.erasing import erase, erase_user, everything_erased
from palate.store.items import parse
from palate.store.leasing import lease, leases_of
from palate.store.reading import counts, find, stored
from palate.store.voting import Word, keep, withdraw, word, words, words_of


@pytest.fixture
def key(store: Store) -> str:
    store.add([chat("a?", "x", "y", "z", ids=("o:1",), user="u")], "log")
    return find(store, "o:1").id


def vote(key: str, annotator: str = "ann", **more: Any) -> Word:
    said = {"shown": (1, 0), "kind": "vote", "choice": 1, "over": 0, "strength": 1.0} | more
    return Word(annotator, key, **said)


def settled(store: Store) -> list[Any]:
    rejects: list[Any] = []
    judged = [Judged(one.example, one.signals) for one in stored(store)]
    made = settle(judged, rejects.append)
    return [*(e.verdict or [c.label for c in e.completions] for e in made), *rejects]


def untimed(found: list[Word]) -> list[Word]:
    assert all(one.time for one in found)
    return [replace(one, time=None) for one in found]


def test_a_vote_is_a_signal_with_what_was_shown(store: Store, key: str) -> None:
    said = vote(key, strength=0.75, comment="shorter")
    keep(store, said)
    (found,) = find(store, key).signals
    assert (found.kind, found.choice, found.over, found.by) == ("vote", 1, 0, "ann")
    assert (found.shown, found.strength, found.comment) == ((1, 0), 0.75, "shorter")
    assert found.provenance[0].source == "palate ui"
    assert settled(store) == [Verdict(1, 0, "vote", 0.75)]
    assert untimed(words(store)) == untimed(words_of(store, "ann", 10)) == [said]
    assert word(store, said.id) == words(store)[0]


def test_another_vote_takes_the_place_of_the_first(store: Store, key: str) -> None:
    keep(store, vote(key, comment="hasty"))
    keep(store, vote(key))  # sent twice
    tie = vote(key, kind="tie", strength=None)
    keep(store, tie)
    assert untimed(words(store)) == [tie]
    assert counts(store) == {"interactions": 1, "erased": 0, "tie": 1}
    assert settled(store) == [[None, None, None]]
    # The order in which the answers are shown makes no other word of it, another pair does.
    keep(store, vote(key, shown=(0, 1), choice=0, over=1))
    keep(store, vote(key, shown=(0, 2), choice=0, over=2))
    keep(store, vote(key, "eve"))
    assert [(w.annotator, w.choice, w.over) for w in words(store)] == [
        ("ann", 0, 1),
        ("ann", 0, 2),
        ("eve", 1, 0),
    ]


def test_undo_leaves_a_tombstone_that_a_later_vote_fills(store: Store, key: str) -> None:
    said = vote(key, comment="SECRET", edit="better")
    keep(store, said)
    assert withdraw(store, said.id)
    assert not withdraw(store, said.id)
    assert (words(store), words_of(store, "ann", 9), word(store, said.id)) == ([], [], None)
    assert (find(store, key).signals, settled(store)) == ((), [[None, None, None]])
    assert counts(store) == {"interactions": 1, "erased": 0}
    assert everything_erased(store).hashes == frozenset(), "no snapshot is cleaned of it"
    keep(store, vote(key))
    assert untimed(words(store)) == [vote(key)]
    assert len(find(store, key).signals) == 1


def test_both_bad_is_about_the_two_that_were_shown(store: Store, key: str) -> None:
    keep(store, vote(key, choice=None, over=None, strength=None, shown=(2, 0)))
    assert settled(store) == [[False, None, False]]
    # And of one annotator the last word on these two counts.
    keep(store, vote(key, choice=0, over=2, shown=(2, 0), round=1))
    assert settled(store) == [Verdict(0, 2, "vote", 1.0)]


def test_the_second_round_is_a_word_of_its_own(store: Store, key: str) -> None:
    first, second = vote(key), vote(key, shown=(0, 1), choice=0, over=1, round=1)
    keep(store, first)
    keep(store, second)
    assert untimed(words(store)) == [first, second]
    assert untimed(words_of(store, "ann", 1)) == [second]
    assert settled(store) == [Verdict(0, 1, "vote", 1.0)], "the last word counts"
    withdraw(store, second.id)
    assert settled(store) == [Verdict(1, 0, "vote", 1.0)]


def test_an_edit_is_an_event_on_the_better_answer(store: Store, key: str) -> None:
    keep(store, vote(key, edit="y, better"))
    vote_, edit = find(store, key).signals
    if vote_.kind == "edit":
        vote_, edit = edit, vote_
    assert (edit.kind, edit.choice, edit.by) == ("edit", 1, "ann")
    assert edit.edit == (Message("assistant", "y, better"),)
    assert settled(store)[:2] == [Verdict(1, 0, "vote", 1.0), Verdict(0, 1, "edit")]
    keep(store, vote(key, strength=0.75))
    assert words(store)[0].edit == "y, better", "another vote leaves the edit"
    keep(store, vote(key, edit="y, best"))
    assert [one.edit for one in words_of(store, "ann", 5)] == ["y, best"]
    keep(store, vote(key, kind="skip", choice=None, over=None, strength=None))
    assert [(one.kind, one.edit) for one in words(store)] == [("skip", None)]


def test_skips_and_flags_are_no_signals(store: Store, key: str) -> None:
    nothing = {"choice": None, "over": None, "strength": None}
    keep(store, vote(key, kind="skip", **nothing))
    keep(store, vote(key, "eve", kind="flag", comment="names a person", **nothing))
    assert find(store, key).signals == ()
    assert [(one.annotator, one.kind, one.comment) for one in words(store)] == [
        ("ann", "skip", None),
        ("eve", "flag", "names a person"),
    ]
    keep(store, vote(key))
    assert [one.kind for one in find(store, key).signals] == ["vote"]


def test_a_thumb(store: Store, key: str) -> None:
    said = Word("ann", key, (0,), "thumb", choice=0, label=False)
    keep(store, said)
    assert settled(store) == [[False, None, None]]
    keep(store, replace(said, label=True))
    assert settled(store) == [[True, None, None]]


def test_what_others_said_elsewhere_is_no_word(store: Store, key: str) -> None:
    store.add([signal("o:1", "vote", choice=0, over=1, by="ann", time="2026-01-01")], "arena")
    store.add([signal("o:1", "vote", choice=0, over=2, by="ann", time="2026-01-01")], "palate ui")
    assert words(store) == words_of(store, "ann", 10) == []


def test_the_last_words_come_first(store: Store) -> None:
    store.add([chat(f"{n}?", "x", "y", ids=(f"o:{n}",)) for n in range(4)], "log")
    keys = [find(store, f"o:{n}").id for n in range(4)]
    for place in (2, 0, 3):
        keep(store, vote(keys[place]))
    keep(store, vote(keys[1], "eve"))
    keep(store, vote(keys[2]))  # changed: it is the last one now
    assert [one.interaction for one in words_of(store, "ann", 2)] == [keys[2], keys[3]]


def test_a_word_ends_its_lease(store: Store, key: str) -> None:
    item = parse(f"{key}.0.1")
    for who in ("ann", "eve"):
        assert lease(store, who, [(item, 2)], 10) == item
    keep(store, vote(key), item.key)
    assert (leases_of(store, "ann"), leases_of(store, "eve")) == ([], [item.key])


def test_nothing_is_said_of_what_was_deleted(store: Store, key: str) -> None:
    keep(store, vote(key, comment="SECRET", edit="SECRET"))
    keep(store, vote(key, "eve", kind="flag", comment="SECRET"))
    assert lease(store, "eve", [(parse(f"{key}.0.2"), 1)], 10)
    erased = erase(store, [key])
    assert (erased.events, len(erased.hashes)) == (3, 4), "the row's hash, and one of each word"
    assert (words(store), leases_of(store, "eve")) == ([], [])
    with pytest.raises(ValueError, match="was deleted meanwhile"):
        keep(store, vote(key))
    assert counts(store) == {"interactions": 0, "erased": 1}


def test_an_annotators_words_are_deleted_with_the_annotator(store: Store, key: str) -> None:
    keep(store, vote(key, edit="SECRET"))
    keep(store, vote(key, "eve"))
    assert lease(store, "ann", [(parse(f"{key}.0.2"), 1)], 10)
    assert erase_user(store, "ann").events == 2
    assert [one.annotator for one in words(store)] == ["eve"]
    assert leases_of(store, "ann") == []


@pytest.mark.parametrize("fate", ["moved", "deleted", "replaced"])
def test_a_word_is_not_kept_in_a_file_that_nobody_finds_again(tmp_path: Path, fate: str) -> None:
    """An open file takes writes after its name is gone, or is another file's."""
    file, other = tmp_path / "palate.db", tmp_path / "other.db"
    Store.open(other).close()
    with Store.open(file) as store:
        store.add([chat("a?", "x", "y", "z", ids=("o:1",))], "log")
        said = vote(find(store, "o:1").id)
        keep(store, said)
        if fate == "deleted":
            file.unlink()
        else:
            file.rename(tmp_path / "moved.db")
        if fate == "replaced":
            other.rename(file)
        with pytest.raises(StoreError, match="was moved, deleted or replaced while it was open"):
            keep(store, replace(said, choice=0, over=1))
        if fate == "moved":
            (tmp_path / "moved.db").rename(file)
            keep(store, replace(said, kind="tie"))
            assert [one.kind for one in words(store)] == ["tie"]
