"""Files into the store: each content once, whatever interrupts it, and every row accounted for."""

from __future__ import annotations

import gzip
import json
import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from palate import __version__
from palate.ingest import IngestError
from palate.records import Reject
from palate.store import importing
from palate.store.database import Store, StoreError, is_store
from palate.store.importing import import_paths
from palate.store.reading import counts, stored
from palate.store.sources import sources


def logged(number: int, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"Answer {number}."}
    return {
        "model": "m",
        "messages": [{"role": "user", "content": f"Question {number}?"}],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "created": 1_700_000_000 + number,
        **more,
    }


def written(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_every_row_is_accounted_for(store: Store, tmp_path: Path) -> None:
    rows = [logged(1, feedback="up"), "{broken", logged(2, feedback="sideways"), logged(3), "[]"]
    file = written(tmp_path / "log.jsonl", rows)
    rejects: list[Reject] = []
    seen: list[int] = []
    summary = import_paths(
        store, [str(file)], on_reject=rejects.append, advance=lambda n, _: seen.append(n)
    )
    assert (summary.files, summary.rows, sum(seen)) == (1, 5, 5)
    assert (summary.added.new, summary.added.events) == (2, 1)
    assert summary.shapes == {"labelled": 1, "demonstration": 1}
    assert summary.signals == {"thumb": 1}
    assert summary.rejected == {"broken-json": 1, "unknown-feedback": 1, "not-an-object": 1}
    assert sorted(reject.line for reject in rejects) == [2, 3, 5]
    (source,) = sources(store)
    assert (source.name, source.summary) == (
        str(file),
        {
            "rows": 5,
            "rejected": dict(summary.rejected),
            "format": "auto",
            "version": __version__,
        },
    )
    times = [one.example.provenance[0].time for one in stored(store)]
    assert times == ["2023-11-14T22:13:21+00:00", "2023-11-14T22:13:23+00:00"]


def test_the_same_content_twice_adds_nothing(store: Store, tmp_path: Path) -> None:
    file = written(tmp_path / "log.jsonl", [logged(n, feedback="up") for n in range(9)])
    import_paths(store, [str(file)])
    before = counts(store)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    summary = import_paths(store, [str(file), str(copy)])
    assert (summary.files, summary.skipped) == (0, [str(file), str(copy)])
    packed = written(tmp_path / "log.jsonl.gz", [logged(n, feedback="up") for n in range(9)])
    summary = import_paths(store, [str(packed)])
    assert (summary.added.new, summary.added.known) == (0, 9), "another file with the same rows"
    # The rows have no ids, so that each export of them is a sighting, and its thumb the same one.
    assert counts(store) == before


def test_an_export_that_grew_adds_what_is_new(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    import_paths(store, [str(written(file, [logged(n, id=f"chatcmpl-{n}") for n in range(5)]))])
    later = [logged(n, id=f"chatcmpl-{n}", feedback="down") for n in range(8)]
    summary = import_paths(store, [str(written(file, later))])
    assert (summary.added.new, summary.added.events) == (3, 8)
    assert counts(store) == {"interactions": 8, "erased": 0, "thumb": 8}


def test_a_file_that_cannot_be_read_does_not_stop_the_others(store: Store, tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [logged(1)])
    written(tmp_path / "b.jsonl", [{"fruit": "apple"}])
    written(tmp_path / "c.jsonl", ["{broken"])
    summary = import_paths(store, [str(tmp_path / f"{name}.jsonl") for name in "abc"])
    assert (summary.files, summary.added.new) == (1, 1)
    assert len(summary.problems) == 2
    assert "matches no format: it has the fields fruit" in summary.problems[0]
    assert "no usable row" in summary.problems[1]
    with pytest.raises(IngestError, match="matches no format"):
        import_paths(store, [str(tmp_path / "b.jsonl")])
    with pytest.raises(IngestError, match="unknown format 'opnai'"):
        import_paths(store, [str(tmp_path / "a.jsonl")], "opnai")
    with pytest.raises(IngestError, match="there is no file"):
        import_paths(store, [str(tmp_path / "none.jsonl")])


def test_a_process_of_its_own_gives_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [logged(n, feedback="up" if n % 3 else None) for n in range(500)]
    rows[100] = "{broken"
    file = written(tmp_path / "log.jsonl", rows)
    monkeypatch.setattr(importing, "BATCH", 60)
    here = import_paths(store, [str(file)])
    with Store.open(tmp_path / "other.db") as other:
        monkeypatch.setattr(importing, "SMALL", 0)
        there = import_paths(other, [str(file)])
        assert (there.rows, there.added, there.signals) == (here.rows, here.added, here.signals)
        ids = [[one.id for one in stored(which)] for which in (store, other)]
        assert ids[0] == ids[1]
        bad = written(tmp_path / "bad.jsonl", [{"fruit": 1}])
        with pytest.raises(IngestError, match="matches no format"):
            import_paths(other, [str(bad)])


def test_a_kill_in_the_middle_loses_nothing_that_was_written(tmp_path: Path) -> None:
    file = written(tmp_path / "log.jsonl", [logged(n, feedback="up") for n in range(24_000)])
    database = tmp_path / "palate.db"
    program = (
        "import sys\nfrom palate.store.database import Store\n"
        "from palate.store.importing import import_paths\n"
        "with Store.open(sys.argv[1]) as store:\n"
        "    import_paths(store, [sys.argv[2]], advance=lambda n, _: print(n, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(database), str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    os.kill(process.pid, signals.SIGKILL)
    process.wait()
    with Store.open(database) as store:
        half = counts(store)["interactions"]
        assert 0 < half < 24_000, "or the machine was too fast for this test"
        assert sources(store)[0].completed is None
        summary = import_paths(store, [str(file)])
        assert summary.added.new == 24_000 - half
        assert counts(store) == {"interactions": 24_000, "erased": 0, "thumb": 24_000}
        assert import_paths(store, [str(file)]).skipped == [str(file)]


def test_readers_and_a_second_writer_beside_an_import(tmp_path: Path) -> None:
    with Store.open(tmp_path / "palate.db") as one, Store.open(tmp_path / "palate.db") as two:
        with one.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO source (name, began) VALUES ('x', '2026-01-01')"
            )
            assert sources(two) == [], "a reader sees what was committed"
        assert len(sources(two)) == 1
        with two.reading() as connection:
            before = connection.exec_driver_sql("SELECT count(*) FROM source").scalar()
            with one.writing() as other:
                other.exec_driver_sql("INSERT INTO source (name, began) VALUES ('y', '2026')")
            after = connection.exec_driver_sql("SELECT count(*) FROM source").scalar()
            assert (before, after) == (1, 1), "and one state throughout"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("absent.db", "there is no store .*absent.db: make one with palate import PATH"),
        ("no/such/palate.db", "there is no store"),
        ("text.db", "file is not a database: it is some other file"),
        (
            "postgresql://palate@127.0.0.1:9/x",
            "the store postgresql://palate@127.0.0.1:9/x failed: .*refused",
        ),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "text.db").write_text("no database, " * 100)
    where = place if "://" in place else str(tmp_path / place)
    began = time.monotonic()
    with pytest.raises(StoreError, match=said) as error:
        Store.open(where, create=False)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 30


def test_a_new_store_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the folder .*absent of the store is not there"):
        Store.open(tmp_path / "absent" / "palate.db")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as error:
        Store.open("postgresql://ann:geheim@127.0.0.1:9/x")
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "yes"),
    [
        ("palate.db", True),
        ("a/b.sqlite3", True),
        ("sqlite:///x", True),
        ("postgresql://h/d", True),
        ("postgres://h/d", True),
        ("log.jsonl", False),
        ("hub:a/b", False),
        ("folder", False),
    ],
)
def test_what_is_a_store(place: str, yes: bool) -> None:
    assert is_store(place) is yes


def test_a_file_of_which_nothing_is_usable_is_finished_and_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been read to its end, and says so; another reading tells why it gave nothing."""
    for size in (importing.SMALL, 0):  # here, and in a process of its own
        monkeypatch.setattr(importing, "SMALL", size)
        for name, rows, rejected in (
            ("empty.jsonl", [], {}),
            ("broken.jsonl", ["{broken", "[]"], {"broken-json": 1, "not-an-object": 1}),
            ("fruit.jsonl", [{"fruit": 1}], {}),
        ):
            file = written(tmp_path / name, rows)
            with pytest.raises(IngestError, match=r"no usable row|matches no format"):
                import_paths(store, [str(file)])
            last = next(source for source in sources(store) if source.name == str(file))
            assert last.completed is not None
            assert last.summary == {
                "rows": sum(rejected.values()),
                "rejected": rejected,
                "format": "auto",
                "version": __version__,
                "unusable": True,
            }
    assert len(sources(store)) == 3


def test_what_ended_before_its_file_did_is_not_finished(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "log.jsonl", [logged(1)])
    monkeypatch.setattr(importing, "SMALL", 0)
    monkeypatch.setattr(importing, "_parse", os._exit)
    with pytest.raises(IngestError, match="ended with code"):
        import_paths(store, [str(file)])
    assert [source.completed for source in sources(store)] == [None]


def test_a_file_that_may_not_be_read_does_not_stop_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.jsonl", [logged(1)])
    shut = written(tmp_path / "b.jsonl", [logged(2)])
    (tmp_path / "c.bz2").write_bytes(b"BZh")
    real = importing.file_hash

    def file_hash(path: Path) -> str:
        if path == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(importing, "file_hash", file_hash)
    summary = import_paths(store, [str(tmp_path)])
    assert (summary.files, summary.problems) == (1, [f"cannot read {shut}: Permission denied"])
    assert summary.ignored == [tmp_path / "c.bz2"]


def test_why_nothing_was_usable_is_said_for_each_file(store: Store, tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [logged(1)])
    written(tmp_path / "b.jsonl", [{"fruit": "apple"}])
    (said,) = import_paths(store, [str(tmp_path)]).problems
    assert "unknown-format 1 (first at line 1: the file matches no format: it has the" in said
    assert len(said) < 400


def test_a_packed_file_is_measured_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a log of 40 MB, which `.gz` makes 4, would be parsed and written in turns."""
    packed = written(tmp_path / "log.jsonl.gz", [logged(n) for n in range(20)])
    plain = tmp_path / "log.jsonl"
    plain.write_bytes(packed.read_bytes())  # of the same size, and no archive by its name
    monkeypatch.setattr(importing, "SMALL", packed.stat().st_size + 1)
    monkeypatch.setattr(importing, "_parsed", lambda file: iter(()))

    def refuse(how: str) -> None:
        raise RuntimeError(f"a process by {how}")

    monkeypatch.setattr(importing.multiprocessing, "get_context", refuse)
    with importing._batches((str(plain), plain, True, "auto")) as batches:
        assert list(batches) == []
    with (
        pytest.raises(RuntimeError, match="a process by spawn"),
        importing._batches((str(packed), packed, True, "auto")),
    ):
        pass
