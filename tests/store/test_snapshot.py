"""Snapshots: what was written is what is read, or an error."""

import json

import pyarrow.parquet as pq
import pytest

from palate.curate.funnel import Funnel
from palate.records import Completion, Example, Message, Provenance, Reject, Verdict
from palate.store import read_snapshot, write_snapshot
from palate.store.snapshot import content_hash

CALL = {"type": "function", "function": {"name": "find", "arguments": {"q": "é"}}}


def _pair(prompt, line=1):
    return Example(
        prompt=(Message("system", "Be kind."), Message("user", prompt)),
        completions=(
            Completion((Message("assistant", "", tool_calls=(CALL,)),), source="m", label=True),
            Completion((Message("assistant", "nul \0, 'quotes', 🙂"),), score=0.1),
        ),
        verdict=Verdict(0, 1, by="thumbs", strength=0.5),
        tools=({"name": "find"},),
        tags={"shift": "night"},
        provenance=(
            Provenance("log", line, "2026-01-01T00:00:00+00:00", "abc"),
            Provenance("x", 9),
        ),
    )


PLAIN = Example((Message("user", "q"),), (Completion((Message("assistant", "a"),)),))
TRAIN, HELDOUT = [_pair("one", 1), _pair("two", 2), PLAIN], [_pair("three", 3)]
REJECTS = [Reject("log", 4, "empty-answer", "it is empty"), Reject("log", 5, "duplicate", "é\n")]


@pytest.fixture
def folder(tmp_path):
    funnel = Funnel()
    funnel.add("read", 5, "rows read")
    write_snapshot(tmp_path / "snapshot", TRAIN, HELDOUT, REJECTS, funnel, {"filters": ["empty"]})
    return tmp_path / "snapshot"


def test_round_trip(folder):
    snapshot = read_snapshot(folder)
    assert snapshot.train == TRAIN
    assert snapshot.heldout == HELDOUT
    assert snapshot.rejects == REJECTS
    manifest = snapshot.manifest
    assert manifest.rows == {"train": 3, "heldout": 1, "rejects": 2}
    assert manifest.rejected == {"empty-answer": 1, "duplicate": 1}
    assert manifest.funnel["line"] == "5 rows read"
    assert manifest.extra == {"filters": ["empty"]}
    assert manifest.content_hash == content_hash(TRAIN, HELDOUT)


def test_the_files_are_what_the_design_names(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "heldout.parquet",
        "manifest.json",
        "rejects.jsonl",
        "train.parquet",
    ]
    assert not list(folder.parent.glob(".*"))  # no partial folder is left


def test_the_hash_is_of_content_and_order():
    base = content_hash(TRAIN, HELDOUT)
    assert content_hash(TRAIN, HELDOUT) == base
    assert content_hash(TRAIN[::-1], HELDOUT) != base
    assert content_hash(TRAIN[:2], [TRAIN[2], *HELDOUT]) != base
    assert content_hash([_pair("One", 1), *TRAIN[1:]], HELDOUT) != base


@pytest.mark.parametrize(
    "name", ["train.parquet", "heldout.parquet", "rejects.jsonl", "manifest.json"]
)
def test_a_flipped_byte_is_seen(folder, name):
    content = bytearray((folder / name).read_bytes())
    for position in range(0, len(content), max(1, len(content) // 25)):
        flipped = content.copy()
        flipped[position] ^= 1
        (folder / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=r"checksum|damaged|changed|lacks"):
            read_snapshot(folder)


def test_a_missing_file_is_said(folder):
    (folder / "heldout.parquet").unlink()
    with pytest.raises(ValueError, match=r"lacks heldout\.parquet"):
        read_snapshot(folder)
    with pytest.raises(ValueError, match="is not a snapshot"):
        read_snapshot(folder.parent)


def test_writing_the_same_again_changes_nothing(folder):
    before = (folder / "manifest.json").stat().st_mtime_ns
    manifest = write_snapshot(folder, TRAIN, HELDOUT)
    assert manifest == read_snapshot(folder).manifest
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_writing_over_something_else_is_refused(folder):
    with pytest.raises(ValueError, match="never written over"):
        write_snapshot(folder, TRAIN[:1], HELDOUT)
    assert read_snapshot(folder).train == TRAIN


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="is not a snapshot"):
        write_snapshot(tmp_path, TRAIN, HELDOUT)


def test_an_empty_folder_is_used(tmp_path):
    write_snapshot(tmp_path, TRAIN, [])
    assert read_snapshot(tmp_path).heldout == []


def test_a_failure_leaves_nothing_behind(tmp_path):
    half = Example((Message("user", "\ud83d"),), PLAIN.completions)
    with pytest.raises(ValueError, match="surrogates"):
        write_snapshot(tmp_path / "snapshot", [half], [])
    with pytest.raises(TypeError):
        write_snapshot(tmp_path / "snapshot", [PLAIN], [], extra={"x": object()})
    assert not list(tmp_path.iterdir())


def test_columns_are_flat_where_people_query(folder):
    table = pq.read_table(folder / "train.parquet")
    rows = table.to_pylist()
    assert [row["line"] for row in rows] == [1, 2, None]
    assert rows[0]["source"] == "log"
    assert rows[0]["hash"] == "abc"
    assert json.loads(rows[0]["tags"]) == {"shift": "night"}
    assert rows[0]["id"] == TRAIN[0].id


def test_duckdb_reads_it(folder):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    rows = duckdb.read_parquet(str(folder / "train.parquet"))
    rows = rows.filter("json_extract_string(tags, '$.shift') = 'night'").order("line")
    asked = rows.project("line, json_extract_string(prompt, '$[1].content')").fetchall()
    assert asked == [(1, "one"), (2, "two")]
