"""A recipe's data out of a store: what comes out is what the files would have given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.store.arrivals import chat, signal

from palate.config import DataConfig
from palate.curate.prepare import prepare
from palate.records import Message, Reject
from palate.store.database import Store, StoreError
from palate.store.importing import import_paths
from palate.store.judged import read_judged, stores_of
from palate.store.snapshot import content_hash


def log(path: Path, numbers: range) -> str:
    rows = [
        {
            "id": f"cc-{n}",
            "messages": [{"role": "user", "content": f"Question {n // 2}?"}],
            "choices": [{"message": {"role": "assistant", "content": f"Answer {n}."}}],
            "feedback": "up" if n % 2 else "down",
            "created": 1_700_000_000 + n,
        }
        for n in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_pairs_are_those_of_the_files(store: Store, place: str, tmp_path: Path) -> None:
    file = log(tmp_path / "log.jsonl", range(20))
    import_paths(store, [file])
    settings = {"heldout": 0.2}
    there = prepare(DataConfig(path=place, **settings), 3, read=read_judged)
    here = prepare(DataConfig(path=file, **settings), 3)
    assert [e.id for e in there.train] == [e.id for e in here.train]
    assert [e.id for e in there.heldout] == [e.id for e in here.heldout]
    assert there.funnel.line() == here.funnel.line()


def test_the_same_rows_in_another_order_give_the_same_hash(
    store: Store, place: str, tmp_path: Path
) -> None:
    rows = [
        chat(f"{n // 2}?", f"a{n}", ids=(f"o:{n}",), time=f"2026-01-{n + 1:02}", line=n)
        for n in range(12)
    ]
    thumbs = [signal(f"o:{n}", "thumb", label=n % 2 == 0, line=n) for n in range(12)]
    store.add(rows, "log")
    store.add(thumbs, "feedback")
    with Store.open(tmp_path / "other.db") as other:
        other.add(thumbs[::-1], "feedback")
        for row in rows[::-1]:
            other.add([row], "log")
    found = [
        prepare(DataConfig(path=where, heldout=0.3), 1, read=read_judged)
        for where in (place, str(tmp_path / "other.db"))
    ]
    assert len(found[0].train) + len(found[0].heldout) == 6
    hashes = [content_hash(one.train, one.heldout) for one in found]
    assert hashes[0] == hashes[1]


def test_stores_and_files_together(store: Store, place: str, tmp_path: Path) -> None:
    store.add([chat("a?", "yes", label=True), chat("a?", "no", label=False)], "log")
    file = log(tmp_path / "log.jsonl", range(4))
    config = DataConfig(path=[file, place], heldout=0)
    assert stores_of(config) == [place]
    asked = [e.prompt[0].content for e in prepare(config, 0, read=read_judged).train]
    assert asked == ["Question 0?", "Question 1?", "a?"]


def test_events_without_an_answer_are_told(store: Store, place: str) -> None:
    edit = signal("o:9", "edit", line=7, edit=(Message("assistant", "x"),))
    store.add([chat("a?", "yes", label=True), edit], "log")
    rejects: list[Reject] = []
    assert len(list(read_judged(DataConfig(path=place), rejects.append))) == 1
    assert [(r.source, r.line, r.reason) for r in rejects] == [("log", 7, "no-such-answer")]


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        list(read_judged(DataConfig(path=str(tmp_path / "palate.db")), lambda _: None))
    assert not (tmp_path / "palate.db").exists()


def test_a_score_of_a_trace_finds_its_one_answer(store: Store, place: str) -> None:
    answer = chat("a?", "yes", ids=("langfuse:observation/1",), tags={"trace_id": "x"})
    other = chat("b?", "no", ids=("langfuse:observation/2",), tags={"trace_id": "y"}, label=True)
    store.add([answer, other], "log")
    store.add([signal("langfuse:trace/x", "thumb", label=False)], "scores")
    rejects: list[Reject] = []
    found = list(read_judged(DataConfig(path=place), rejects.append))
    thumbs = {one.example.prompt[0].content: [s.label for s in one.signals] for one in found}
    assert thumbs == {"a?": [False], "b?": [True]}
    assert not rejects
