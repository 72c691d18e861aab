"""A store that is damaged, full, read-only or busy: one clear line, and nothing lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.arrivals import chat
from typer.testing import CliRunner

from palate.cli.main import app
from palate.store import database
from palate.store.database import Store, StoreError
from palate.store.reading import stored

WRITER = """
import sys
from tests.store.arrivals import chat
from palate.store.database import Store
with Store.open(sys.argv[1]) as store:
    for number in range(20):
        store.add([chat(f"{sys.argv[2]} asks {number}", "x", line=number)], sys.argv[2])
"""


def asked(path: Path) -> list[str]:
    with Store.open(path) as store:
        return [one.example.prompt[0].content for one in stored(store)]


def filled(path: Path, count: int = 200) -> Path:
    with Store.open(path) as store:
        store.add([chat(f"question {n} " + "w " * 99, "x", line=n) for n in range(count)], "log")
    return path


def one_line(*words: str) -> str:
    """What a command says that ends with exit code 2."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_a_damaged_page_is_one_line_and_not_a_traceback(tmp_path: Path) -> None:
    path = filled(tmp_path / "palate.db")
    content = path.read_bytes()
    page = content.index(b"question 199")  # a leaf of the table, whose kind of page is now none
    at = page // 4096 * 4096
    path.write_bytes(content[:at] + b"\x07" + content[at + 1 :])
    with pytest.raises(StoreError, match="malformed: the file is damaged: put a backup"):
        asked(path)
    said = one_line("data", "search", str(path), "question")
    assert "the file is damaged: put a backup in its place" in said


def test_half_a_file_is_one_line(tmp_path: Path) -> None:
    path = filled(tmp_path / "palate.db")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "malformed: the file is damaged" in one_line("data", "show", str(path))


def test_a_full_disk_takes_nothing_or_all(tmp_path: Path) -> None:
    path = filled(tmp_path / "palate.db", 3)
    before = asked(path)
    more = [chat(f"more {n} " + "w " * 999, "x", line=n) for n in range(99)]
    with Store.open(path) as store:
        with store.engine.connect() as connection:  # the pool has one, which the next one gets
            connection.exec_driver_sql("PRAGMA max_page_count = 40")
        with pytest.raises(StoreError, match="disk is full: free some space and try again"):
            store.add(more, "more")
    assert asked(path) == before
    with Store.open(path) as store:
        assert store.add(more, "more").new == 99


def test_another_writer_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "palate.db", 3)
    monkeypatch.setattr(database, "_WAIT", 0.1)
    with Store.open(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert len(asked(path)) == 3  # readers are not kept waiting
        with pytest.raises(StoreError, match="locked: another program is writing to it: try again"):
            store.add([chat("more", "x")], "more")
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
        assert "try again" in one_line("import", str(rows), "--db", str(path))
        other.execute("ROLLBACK")
        other.close()
        assert store.add([chat("more", "x")], "more").new == 1


def test_several_processes_that_make_a_store_lose_nothing(tmp_path: Path) -> None:
    path, names = tmp_path / "palate.db", ("ann", "bob", "cid")
    words = [sys.executable, "-c", WRITER, str(path)]
    running = [subprocess.Popen([*words, name], stderr=subprocess.PIPE) for name in names]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    expected = sorted(f"{name} asks {number}" for name in names for number in range(20))
    assert sorted(asked(path)) == expected


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder of root's, used by a user who may read it and not write."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        filled(Path(folder, "palate.db"), 3)
        Path(folder).chmod(0o755)
        Path(folder, "palate.db").chmod(0o644)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_store_that_may_not_be_written_says_so(somebody: Path) -> None:
    with pytest.raises(StoreError, match="readonly database: it cannot be written: check its perm"):
        Store.open(somebody / "palate.db")
    with pytest.raises(StoreError, match="check that its folder is there and can be written"):
        Store.open(somebody / "new.db")
    assert sorted(path.name for path in somebody.iterdir()) == ["palate.db"]
