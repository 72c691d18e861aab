"""Search: every filter against what it must find, and pages that leave nothing out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.store.arrivals import chat, signal

from palate.records import Message, Verdict
from palate.store.database import Store
from palate.store.erasing import erase
from palate.store.reading import stored
from palate.ui.data import walk as walking
from palate.ui.data.asked import Asked
from palate.ui.data.walk import walk

WHOLE = 1e9  # seconds: no limit


def at(day: int) -> str:
    return f"2026-01-{day:02d}T10:00:00+00:00"


@pytest.fixture
def filled(store: Store) -> Store:
    """Nine interactions: two at one time, two without a time, one erased."""
    store.add(
        [
            chat("one 100% sure", "Yes", ids=("x:1",), time=at(1), tags={"topic": "a"}),
            chat("two", "Straße nach Überall", ids=("x:2",), time=at(2), tags={"topic": "b"}),
            chat("three", "No", "Yes", ids=("x:3",), time=at(3), verdict=Verdict(1, 0, "vote")),
            chat("four", 'said "source":"gpt"', ids=("x:4",), time=at(3), label=True),
            chat("five", "role", ids=("x:5",), time=at(5), label=False),
        ],
        "first.jsonl",
    )
    store.add(
        [
            chat("six", "No", ids=("x:6",)),
            chat("seven", "No", ids=("x:7",), tags={"source": "gpt"}),
            chat("eight gone", "No", ids=("x:8",), time=at(8)),
            chat("nine", "No", "Nay", ids=("x:9",), time=at(4)),
            signal("x:6", "edit", choice=0, edit=(Message("assistant", "Maybe"),)),
            signal("x:2", "thumb", choice=0, label=False, by="judge/strict"),
            signal("x:9", "vote", choice=None, by="ann"),
            signal("x:7", "flag", choice=None, by="ann"),
        ],
        "second.jsonl",
    )
    gone = [one.id for one in stored(store) if one.example.prompt[-1].content == "eight gone"]
    erase(store, gone)
    return store


def said(text: str) -> str:
    return text.split(maxsplit=1)[0]


def names(rows: Any) -> list[str]:
    return [said(orjson.loads(row.body)["prompt"][-1]["content"]) for row in rows]


def hits(store: Store, **asked: str) -> set[str]:
    return set(names(walk(store, Asked.of(asked), 100, WHOLE).rows))


EVERY = {"one", "two", "three", "four", "five", "six", "seven", "nine"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, EVERY),
        ({"words": "YES"}, {"one", "three"}),
        ({"words": "100%"}, {"one"}),
        ({"words": "1_0"}, set()),
        ({"words": "ÜBERALL"}, {"two"}),
        # The JSON of every interaction has the word; one message says it.
        ({"words": "role"}, {"five"}),
        ({"words": 'said "source"'}, {"four"}),
        # Words of a message and a tag that look like the JSON of a model are none.
        ({"model": "gpt"}, set()),
        ({"model": "m"}, EVERY),
        ({"model": "M"}, set()),
        ({"tag": "topic=a"}, {"one"}),
        ({"tag": "topic"}, {"one", "two"}),
        ({"tag": "prompt"}, set()),
        ({"source": "1"}, {"one", "two", "three", "four", "five"}),
        ({"thumb": "up"}, {"four"}),
        # A judge's thumb is no user's.
        ({"thumb": "down"}, {"five"}),
        ({"event": "thumb"}, {"two", "four", "five"}),
        ({"event": "edit"}, {"six"}),
        # To report an interaction is no word on its answers: it stays unjudged.
        ({"event": "flag"}, {"seven"}),
        # That both are bad ranks nothing.
        ({"state": "pair"}, {"three", "six"}),
        ({"state": "judged"}, {"two", "three", "four", "five", "six", "nine"}),
        ({"state": "unjudged"}, {"one", "seven"}),
        ({"begin": "2026-01-03"}, {"three", "four", "five", "nine"}),
        ({"begin": "2026-01-02", "end": "2026-01-03"}, {"two", "three", "four"}),
        ({"end": "2026-01-02T09:00"}, {"one"}),
        ({"words": "no", "state": "pair"}, {"three", "six"}),
    ],
)
def test_each_filter_finds_what_it_says(
    filled: Store, asked: dict[str, str], expected: set[str]
) -> None:
    assert hits(filled, **asked) == expected


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("seconds", [0, WHOLE])
def test_pages_go_on_where_the_one_before_ended(
    filled: Store, monkeypatch: pytest.MonkeyPatch, most: int, seconds: float
) -> None:
    """In stretches of two, ended after each or not: all are found once, the newest first."""
    monkeypatch.setattr(walking, "_FIRST", 2)
    monkeypatch.setattr(walking, "_MOST", 2)
    found: list[str] = []
    asked = Asked()
    for _ in range(20):
        walked = walk(filled, asked, most, seconds)
        assert len(walked.rows) <= most
        found += names(walked.rows)
        if not walked.before:
            break
        asked = Asked.of({"before": walked.before})
    assert len(found) == len(EVERY)
    assert set(found) == EVERY
    assert found[:2] == ["five", "nine"], "the newest first"
    assert set(found[2:4]) == {"three", "four"}, "of one moment"
    assert found[4:6] == ["two", "one"]
    assert set(found[6:]) == {"six", "seven"}, "those without a time come last"


def test_a_walk_says_how_far_it_came(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "_FIRST", 2)
    monkeypatch.setattr(walking, "_MOST", 2)
    walked = walk(filled, Asked(words="nothing like it"), 10, 0)
    assert (walked.rows, walked.looked, walked.reached, walked.ended) == ((), 2, at(4), True)
    whole = walk(filled, Asked(words="nothing like it"), 10, WHOLE)
    assert (whole.looked, whole.before, whole.ended) == (8, "", False)


def test_the_database_reads_a_stretch_and_no_more(tmp_path: Any) -> None:
    """The plan of SQLite: the index in its order, and no sorting of what it gave."""
    with Store.open(tmp_path / "palate.db") as store, store.reading() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id, time, source, body FROM interaction "
            "WHERE erased IS NULL AND time IS NOT NULL AND (time, id) < ('2', 'b') "
            "AND (time, id) >= ('1', 'a') AND body LIKE '%x%' ORDER BY time DESC, id DESC"
        ).all()
    (step,) = [row[3] for row in plan]
    assert "interaction_recent" in step


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="none of up, down"):
        Asked.of({"thumb": "left"})
    with pytest.raises(ValueError, match="longer than 500"):
        Asked.of({"words": "a" * 501})
    with pytest.raises(ValueError, match="is no time"):
        Asked.of({"begin": "soon"})
    with pytest.raises(ValueError, match="cut off"):
        Asked.of({"before": "2026~xyz"})
