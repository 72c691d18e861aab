"""Deletion: nothing of the content remains, a tombstone does, and whoever held it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from tests.store.arrivals import chat, signal
from typer.testing import CliRunner

from palate.cli.main import app
from palate.config import DataConfig
from palate.curate.prepare import Prepared, prepare
from palate.records import Message
from palate.store import database
from palate.store.database import Store, StoreError
from palate.store.erasing import erase, erase_user, expire
from palate.store.freezing import freeze
from palate.store.judged import read_judged
from palate.store.ledger import clean, holders
from palate.store.reading import counts, find, stored
from palate.store.schema import METADATA
from palate.store.snapshot import read_snapshot

SECRET = "my cat is called Schnurrbert"


def filled(store: Store) -> None:
    rows = [
        chat(SECRET, "How nice!", ids=("o:1",), user="ann", label=True, time="2026-01-01"),
        chat("b?", f"I know: {SECRET}", ids=("o:2",), user="ann", time="2026-01-02"),
        chat("c?", "ok", ids=("o:3",), user="bob", time="2026-01-03"),
        signal("o:3", "edit", edit=(Message("assistant", SECRET),), by="ann", comment=SECRET),
        signal("o:1", "thumb", label=False, by="eve", comment=SECRET),
    ]
    store.add(rows, "log")


def everything(store: Store) -> str:
    """All values of all tables, and of a file all of its bytes."""
    found: list[Any] = []
    with store.reading() as connection:
        for table in METADATA.tables.values():
            found += [value for row in connection.execute(sa.select(table)) for value in row]
    text = "\n".join(map(str, found))
    if store.is_sqlite:
        for file in Path(store.name).parent.glob("palate.db*"):
            text += file.read_bytes().decode("latin-1")
    return text


def test_nothing_of_a_user_remains(store: Store) -> None:
    filled(store)
    assert SECRET in everything(store)
    erased = erase_user(store, "ann")
    assert (len(erased.interactions), erased.events) == (2, 3)
    assert SECRET not in everything(store)
    assert counts(store) == {"interactions": 1, "erased": 2}
    assert [one.user for one in stored(store)] == ["bob"]
    with pytest.raises(ValueError, match="was erased on 20"):
        find(store, "o:1")
    assert erase_user(store, "ann").interactions == ()


def test_what_was_deleted_stays_deleted(store: Store) -> None:
    filled(store)
    erase_user(store, "ann")
    filled(store)
    again = store.add([chat(SECRET, "How nice!", label=False, line=8)], "other")
    assert (again.new, again.known, again.erased) == (0, 0, 1), "also without its id"
    late = signal("o:1", "thumb", label=True, comment=SECRET, line=9)
    assert store.add([late], "feedback").erased == 1
    assert counts(store)["interactions"] == 1
    assert [one.user for one in stored(store)] == ["bob"]


def test_a_reader_that_keeps_the_words_in_the_log_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WAIT", 0.1)
    path = tmp_path / "palate.db"
    with Store.open(path) as store:
        store.add([chat("a secret?", "x", ids=("o:1",), user="ann")], "log")
        with Store.open(path) as other, other.reading() as connection:
            connection.execute(sa.select(METADATA.tables["event"])).all()
            with pytest.raises(StoreError, match=r"erased .* until it ends palate.db-wal holds"):
                erase_user(store, "ann")
            assert not list(stored(store))
            assert b"a secret?" in (tmp_path / "palate.db-wal").read_bytes()
        assert erase_user(store, "ann").interactions == ()
        assert not any(b"a secret?" in file.read_bytes() for file in tmp_path.iterdir())


def test_single_interactions_and_old_ones(store: Store) -> None:
    filled(store)
    key = find(store, "o:2").id
    assert erase(store, [key, key, "absent"]).interactions == (key,)
    assert erase(store, [key]).interactions == ()
    old = chat("old?", "x", time="2020-01-01T00:00:00+00:00")
    odd = chat("odd?", "x", time="once upon a time")
    store.add([old, odd, chat("undated?", "x")], "log")
    year_2024 = 365.25 * 1.5
    assert len(expire(store, year_2024).interactions) == 1
    asked = {one.example.prompt[0].content for one in stored(store)}
    assert asked == {SECRET, "c?", "odd?", "undated?"}


def pairs(store: Store) -> None:
    rows = [
        chat(f"{i}?", text, ids=(f"o:{i}{text}",), user=f"u{i}", label=text == "good", line=i)
        for i in range(8)
        for text in ("good", "bad")
    ]
    store.add(rows, "log")


def prepared(place: str) -> tuple[DataConfig, Prepared]:
    config = DataConfig(path=place, heldout=0.25)
    return config, prepare(config, 0, read=read_judged)


def test_snapshots_are_made_anew_and_runs_are_named(
    store: Store, place: str, tmp_path: Path
) -> None:
    pairs(store)
    config, made = prepared(place)
    assert (len(made.train), len(made.heldout)) == (6, 2)
    first = freeze(tmp_path / "snap", made, config, "snapshot")
    freeze(tmp_path / "runs" / "r" / "snapshot", made, config, "run")
    freeze(tmp_path / "gone", made, config, "snapshot")
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    (tmp_path / "gone").rmdir()

    erased = erase_user(store, "u3")
    found = {one.folder.name + one.kind: one.examples for one in holders(store, erased)}
    assert found == {"snapsnapshot": 1, "snapshotrun": 1}
    (holder,) = [one for one in holders(store, erased) if one.kind == "snapshot"]
    second = clean(store, holder, erased)
    assert second.content_hash != first.content_hash
    assert second.extra["before"] == first.content_hash
    fresh = read_snapshot(tmp_path / "snap")
    before = [e.prompt[0].content for e in (*made.train, *made.heldout)]
    after = [e.prompt[0].content for e in (*fresh.train, *fresh.heldout)]
    assert after == [asked for asked in before if asked != "3?"], "each on its side still"
    assert [one.kind for one in holders(store, erased)] == ["run"]


def test_a_snapshot_that_was_changed_is_said(store: Store, place: str, tmp_path: Path) -> None:
    pairs(store)
    config, made = prepared(place)
    freeze(tmp_path / "snap", made, config, "snapshot")
    (tmp_path / "snap" / "train.parquet").write_bytes(b"x")
    (holder,) = holders(store, erase_user(store, "u3"))
    assert holder.examples is None
    assert "is not what was written" in holder.problem


def test_the_command(store: Store, place: str, tmp_path: Path) -> None:
    pairs(store)
    config, made = prepared(place)
    freeze(tmp_path / "snap", made, config, "snapshot")
    freeze(tmp_path / "runs" / "r" / "snapshot", made, config, "run")

    def palate(*words: str, typed: str = "") -> Any:
        return CliRunner().invoke(app, ["data", "delete", "--db", place, *words], input=typed)

    for words in ([], ["--user", "u1", "--id", "o:1good"]):
        result = palate(*words)
        assert result.exit_code == 2
        assert "--user USER, or --id ID" in result.stderr
    assert palate("--user", "u1", typed="n\n").exit_code == 2
    assert counts(store)["interactions"] == 16
    result = palate("--user", "u1", typed="y\n")
    assert result.exit_code == 0, result.output
    assert "erased 2 interactions and 2 events" in result.stderr
    assert f"snapshot {tmp_path / 'snap'} was made anew" in result.stderr
    assert f"run {tmp_path / 'runs' / 'r'} has learned from them" in result.stderr
    result = palate("--id", "o:2good", "--id", "o:2bad", "--yes", "--json")
    body = yaml.safe_load(result.stdout)
    assert (len(body["interactions"]), body["events"]) == (2, 2)
    assert list(body["snapshots"]) == [str(tmp_path / "snap")]
    assert body["runs"] == [str(tmp_path / "runs" / "r")]


def test_what_an_editor_wrote_is_found_in_snapshots(
    store: Store, place: str, tmp_path: Path
) -> None:
    for i in range(8):
        store.add([chat(f"{i}?", "a", ids=(f"o:{i}",), user="eve", line=i)], "log")
        edit = (Message("assistant", f"better {i}"),)
        store.add([signal(f"o:{i}", "edit", edit=edit, by=f"editor{i}", line=i)], "edits")
    config, made = prepared(place)
    freeze(tmp_path / "snap", made, config, "snapshot")
    erased = erase_user(store, "editor1")
    assert (erased.interactions, erased.events) == ((), 1)
    assert [one.examples for one in holders(store, erased)] == [1]


def test_rows_that_a_snapshot_left_out_are_emptied(
    store: Store, place: str, tmp_path: Path
) -> None:
    pairs(store)
    store.add([chat(SECRET, "a", ids=("o:s",), user="ann", label=True, line=99)], "log")
    config, made = prepared(place)
    freeze(tmp_path / "snap", made, config, "snapshot")
    assert SECRET in (tmp_path / "snap" / "rejects.jsonl").read_text()
    erased = erase_user(store, "ann")
    (holder,) = holders(store, erased)
    assert (holder.examples, holder.rejects) == (0, 1)
    fresh = clean(store, holder, erased)
    assert SECRET not in (tmp_path / "snap" / "rejects.jsonl").read_text()
    assert fresh.funnel == made.funnel.to_dict(), "what was counted then"
    assert holders(store, erased) == []


def test_a_user_whom_a_later_export_names(store: Store) -> None:
    store.add([chat(SECRET, "a", ids=("o:1",))], "first")
    later = chat(SECRET, "a", ids=("o:1",), user="ann")
    store.add([later, chat("b?", "b", ids=("o:2",)), chat("b?", "b", user="ann")], "second")
    assert len(erase_user(store, "ann").interactions) == 2
    assert SECRET not in everything(store)


def test_what_is_said_of_a_tombstone_under_another_name(store: Store) -> None:
    correction = signal("l:1", "edit", edit=(Message("assistant", SECRET),), comment=SECRET)
    again = chat(SECRET, "a", ids=("l:1",), line=2)
    store.add([chat(SECRET, "a", ids=("o:1",))], "log")
    erase(store, [find(store, "o:1").id])
    store.add([correction], "early")
    assert counts(store)["waiting"] == 1
    assert store.add([again], "again").erased == 1
    late = signal("l:1", "thumb", label=True, comment=SECRET, line=3)
    assert store.add([late], "late").erased == 1
    assert SECRET not in everything(store)
    assert counts(store) == {"interactions": 0, "erased": 1}


def test_what_waits_for_the_trace_of_an_erased_answer(store: Store) -> None:
    store.add([chat(SECRET, "a", ids=("o:1",), tags={"trace_id": "t42"}, user="ann")], "log")
    correction = (Message("assistant", SECRET),)
    store.add([signal("langfuse:trace/t42", "edit", edit=correction, comment=SECRET)], "scores")
    store.add([signal("langfuse:trace/t43", "thumb", label=True)], "scores")
    assert erase_user(store, "ann").events == 1
    assert SECRET not in everything(store)
    assert counts(store) == {"interactions": 0, "erased": 1, "waiting": 1}


@pytest.mark.parametrize("again", [False, True])
def test_what_comes_late_about_the_trace_of_an_erased_answer(store: Store, again: bool) -> None:
    tags = {"trace_id": "t42"}
    store.add([chat(SECRET, "a", ids=("langfuse:observation/1",), tags=tags, user="ann")], "log")
    correction = (Message("assistant", SECRET),)
    late = signal("langfuse:trace/t42", "edit", edit=correction, by="eve", comment=SECRET)
    if again:  # it had come before, and was erased with the answer
        store.add([late], "scores")
    erase_user(store, "ann")
    assert store.add([late], "scores").erased == 1
    assert store.add([chat(SECRET, "a", ids=("langfuse:trace/t42",))], "traces").erased == 1
    assert SECRET not in everything(store)
    assert counts(store) == {"interactions": 0, "erased": 1}
    other = signal("langfuse:trace/t43", "thumb", label=True)
    assert store.add([other], "scores").waiting == 1, "of another trace"


def test_a_trace_that_is_an_interaction_itself_keeps_its_name(store: Store) -> None:
    tags = {"trace_id": "t42"}
    store.add([chat("q?", "a", ids=("langfuse:trace/t42",), tags=tags, user="bob")], "traces")
    store.add([chat("r?", "b", ids=("langfuse:observation/1",), tags=tags, user="ann")], "log")
    erase_user(store, "ann")
    store.add([signal("langfuse:trace/t42", "thumb", label=True)], "scores")
    assert counts(store) == {"interactions": 1, "erased": 1, "thumb": 1}
