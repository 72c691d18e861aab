"""What comes out is what went in: examples, signals, order, search."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store.arrivals import chat, signal

from palate.curate.signals import Judged, settle
from palate.records import (
    Arrival,
    Completion,
    Example,
    Message,
    Provenance,
    Verdict,
)
from palate.store import reading
from palate.store.database import Store
from palate.store.reading import find, search, stored

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1}'}}
BIG = {"type": "function", "function": {"name": "f", "parameters": {"maximum": 2**70 + 1}}}
RICH = Example(
    prompt=(
        Message("system", "Be brief. — « ü »"),
        Message("user", "How many?"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "3", tool_call_id="c1", name="look"),
    ),
    completions=(
        Completion((Message("assistant", "Three.\n"),), "m1", 0.5, True, "stop"),
        Completion(
            (Message("assistant", "Two?"), Message("user", "No"), Message("assistant", "Three")),
            finish_reason="length",
            label=False,
        ),
    ),
    verdict=Verdict(0, 1, "vote", 0.25),
    tools=(BIG,),
    tags={"conversation_id": "k", "topic": "stock"},
    provenance=(Provenance("a.jsonl", 4, "2026-01-02T03:04:05+00:00", "beef"),),
)


def kept(store: Store) -> list[Example]:
    return settle([Judged(one.example, one.signals) for one in stored(store)], lambda _: None)


@pytest.mark.parametrize(
    "example",
    [
        RICH,
        replace(RICH, verdict=None),
        replace(RICH, verdict=Verdict(1, 0, "file")),
        replace(RICH, completions=RICH.completions[:1], verdict=None, tools=(), tags={}),
        Example((), (Completion((Message("assistant", "A page of text."),)),)),
    ],
)
def test_an_example_comes_back_as_it_was(store: Store, example: Example) -> None:
    store.add([Arrival(example)], "a.jsonl")
    (found,) = [e for e in kept(store) if e.verdict is not None or example.verdict is None]
    place = found.provenance[0]
    first = example.provenance[0] if example.provenance else Provenance("a.jsonl", 0)
    assert place == first
    assert replace(found, provenance=()) == replace(example, provenance=())


def test_a_label_without_a_word_on_the_other_answer(store: Store) -> None:
    store.add([chat("a?", "x", label=False), chat("b?", "y")], "log")
    assert [e.completions[0].label for e in kept(store)] == [False, None]


def test_batches_join_the_right_signals(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BATCH", 3)
    rows = [chat(f"{i}?", "x", ids=(f"o:{i}",), time=f"2026-01-01T00:00:{i:02}") for i in range(10)]
    notes = [signal(f"o:{i}", "score", score=i / 10, name="judge") for i in range(10)]
    store.add(rows, "log")
    store.add(notes, "judge")
    assert [e.completions[0].score for e in kept(store)] == [i / 10 for i in range(10)]


def test_signals_come_in_the_order_of_time_whatever_came_first(store: Store) -> None:
    store.add([chat("a?", "x", ids=("o:1",))], "log")
    late = signal("o:1", "thumb", label=False, by="ann", time="2026-01-03", line=1)
    early = signal("o:1", "thumb", label=True, by="ann", time="2026-01-02", line=2)
    store.add([late, early], "feedback")
    (one,) = stored(store)
    assert [s.label for s in one.signals] == [True, False]
    assert kept(store)[0].completions[0].label is False, "the last word of the same person"


def test_one_is_found_by_its_id_its_beginning_and_its_names(store: Store) -> None:
    store.add([chat("a?", "x", ids=("openai:cc-1",)), chat("b?", "y")], "log")
    one, two = sorted(stored(store), key=lambda s: s.example.prompt[0].content)
    for words in (one.id, one.id[:12], "openai:cc-1"):
        assert find(store, words).id == one.id
    assert find(store, two.id).example.prompt[0].content == "b?"
    with pytest.raises(ValueError, match="no interaction begins with 'zz'"):
        find(store, "zz")
    with pytest.raises(ValueError, match="cannot be empty"):
        find(store, "")
    with pytest.raises(ValueError, match="no interaction begins with '%'"):
        find(store, "%")


def test_search_reads_text_as_people_write_it(store: Store) -> None:
    rows = [
        chat("Where is my “order”?", 'He said "wait\nhere".', time="2026-01-01"),
        chat("100% sure?", "Größe", time="2026-01-02"),
        chat("100 sure?", "groesse", time="2026-01-03"),
    ]
    store.add(rows, "log")

    def hits(words: str) -> list[str]:
        return [one.example.prompt[0].content for one in search(store, words, 10)]

    assert hits('said "WAIT\nhere"') == ["Where is my “order”?"]
    assert hits("100%") == ["100% sure?"]
    assert hits("größe") == ["100% sure?"]
    assert hits("GRÖSSE") == []
    assert hits("GRÖßE") == ["100% sure?"], "whatever the case, also beyond English"
    assert hits("assistant") == [], "the JSON's own words are not the text's"
    assert hits("sure") == ["100 sure?", "100% sure?"], "the latest first"
    assert len(search(store, "e", 2)) == 2


def test_an_integer_of_more_than_64_bits_stays_what_it_is(store: Store) -> None:
    """orjson, which reads most of the store, would make a float of it."""
    arrival = chat("a?", "x", ids=("o:1",))
    limit = {"type": "function", "function": {"name": "f", "parameters": {"maximum": 2**70 + 1}}}
    store.add([replace(arrival, record=replace(arrival.record, tools=(limit,)))], "log")
    (found,) = stored(store)
    assert found.example.tools == (limit,)
    assert found.example.tools[0]["function"]["parameters"]["maximum"] == 2**70 + 1
