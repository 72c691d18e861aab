"""What a reader finds after a write that failed: the old content or the new, never half."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.durable import (
    MARK,
    Damaged,
    commit_folder,
    held,
    hold,
    turn,
    verify_folder,
    write_json,
    write_text,
)


def _fill(text: str) -> Any:
    def fill(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.bin").write_bytes(b"\0\1\2")

    return fill


def _full(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_text_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "new ü\u2028")
    assert path.read_bytes() == "new ü\u2028".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_ends_with_a_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ü": 1\n}\n'


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr("os.fsync" if call == "fsync" else "pathlib.Path.replace", _full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_listed_with_the_checksum_of_each_file(tmp_path: Path) -> None:
    target = tmp_path / "parents" / "step-1"
    commit_folder(target, _fill("hello"), {"step": 1})
    manifest = verify_folder(target)
    # printf hello | sha256sum
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert manifest["step"] == 1
    assert manifest["files"]["a.txt"] == hello
    assert set(manifest["files"]) == {"a.txt", "sub/b.bin"}
    assert [p.name for p in target.parent.iterdir()] == ["step-1"]


def test_a_folder_that_is_there_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model"
    commit_folder(target, _fill("old"), {})
    (target / "stray").write_text("not of the new one")
    commit_folder(target, _fill("new"), {})
    verify_folder(target)
    assert (target / "a.txt").read_text() == "new"
    assert not (target / "stray").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_hidden_folders_of_others_keep_their_files(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in (".model.tmp", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    commit_folder(target, _fill("one"), {})
    commit_folder(target, _fill("two"), {})
    verify_folder(target)
    assert (target / "a.txt").read_text() == "two"
    assert {p.name for p in target.iterdir()} == {"a.txt", "sub", "manifest.json"}
    assert {p.name for p in tmp_path.iterdir()} == {"model", ".model.tmp", ".model.old"}
    for name in (".model.tmp", ".model.old"):
        assert (tmp_path / name / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("at", ["fill", "rename"])
def test_what_a_killed_writer_left_is_deleted_by_the_next(tmp_path: Path, at: str) -> None:
    code = "import os, sys; from pathlib import Path; from palate.durable import commit_folder\n"
    code += "def fill(to):\n    (to / 'half').write_text('half')\n"
    code += "    sys.argv[2] == 'fill' and os._exit(9)\n"
    code += "Path.rename = lambda *_: os._exit(9)\n"
    code += "commit_folder(Path(sys.argv[1]), fill, {})"
    target = tmp_path / "model"
    killed = subprocess.run([sys.executable, "-c", code, str(target), at], check=False)
    assert killed.returncode == 9
    assert (tmp_path / ".model.tmp" / "half").is_file()
    commit_folder(target, _fill("new"), {})
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert {p.name for p in target.iterdir()} == {"a.txt", "sub", "manifest.json"}


@pytest.mark.parametrize("nth", range(6))
def test_what_a_killed_cleaner_left_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Whatever was removed first, the rest is known as ours: it has its mark until it is empty."""
    left = tmp_path / ".one.tmp"
    left.mkdir()
    _fill("old")(left)
    (left / "z.txt").write_text("old")
    (left / MARK).touch()
    done = 0

    def killing(real: Any) -> Any:
        def remove(*args: Any, **kwargs: Any) -> None:
            nonlocal done
            done += 1
            if done > nth:
                raise KeyboardInterrupt
            real(*args, **kwargs)

        return remove

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killing(os.unlink))
        patch.setattr(os, "rmdir", killing(os.rmdir))
        with pytest.raises(KeyboardInterrupt):
            commit_folder(tmp_path / "one", _fill("new"), {})
    commit_folder(tmp_path / "one", _fill("new"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_failing_writer_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "model"
    commit_folder(target, _fill("old"), {})

    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit_folder(target, fails, {})
    assert (target / "a.txt").read_text() == "old"
    verify_folder(target)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "palate.durable.write_json"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, exists: bool
) -> None:
    target = tmp_path / "model"
    if exists:
        commit_folder(target, _fill("old"), {})
    monkeypatch.setattr(call, _full)
    with pytest.raises(OSError, match="No space"):
        commit_folder(target, _fill("new"), {})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == (["model"] if exists else [])
    if exists:
        verify_folder(target)
        assert (target / "a.txt").read_text() == "old"


def test_the_old_folder_comes_back_if_the_last_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    commit_folder(target, _fill("old"), {})
    rename = Path.rename

    def flaky(self: Path, other: Path) -> Path:
        if self.name.endswith(".tmp"):
            _full()
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", flaky)
    with pytest.raises(OSError, match="No space"):
        commit_folder(target, _fill("new"), {})
    assert (target / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_librarys_own_error_becomes_the_systems(tmp_path: Path) -> None:
    """safetensors and tokenizers raise errors of their own, which are no `OSError`."""

    def fails(_folder: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: whatever (os error 28)")

    with pytest.raises(OSError, match="No space") as caught:
        commit_folder(tmp_path / "model", fails, {})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "model")


def test_other_errors_of_a_writer_stay_as_they_are(tmp_path: Path) -> None:
    def fails(_folder: Path) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        commit_folder(tmp_path / "model", fails, {})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "a.txt").write_text("hellp"), "a.txt does not match"),
        (lambda f: (f / "a.txt").write_text("hell"), "a.txt does not match"),
        (lambda f: (f / "sub" / "b.bin").unlink(), "b.bin is missing"),
        (lambda f: (f / "manifest.json").unlink(), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_text('{"files"'), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_text("[]"), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "no readable manifest"),
    ],
)
def test_damage_is_noticed_and_named(tmp_path: Path, harm: Any, said: str) -> None:
    target = tmp_path / "step-1"
    commit_folder(target, _fill("hello"), {})
    harm(target)
    with pytest.raises(Damaged, match=said) as caught:
        verify_folder(target)
    assert str(target) in str(caught.value)


def test_a_file_that_cannot_be_read_counts_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "step-1"
    commit_folder(target, _fill("hello"), {})

    def broken(_path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("palate.durable.file_hash", broken)
    with pytest.raises(Damaged, match="cannot be read"):
        verify_folder(target)


def test_every_flipped_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    target = tmp_path / "step-1"
    commit_folder(target, _fill("hello"), {"step": 3})
    path = target / "a.txt"
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(Damaged):
            verify_folder(target)
    path.write_bytes(good)
    assert json.loads((target / "manifest.json").read_text())["step"] == 3
    verify_folder(target)


def test_what_one_process_holds_no_other_does(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = hold(path)
    assert first is not None
    assert hold(path) is None
    os.close(first)
    second = hold(path)
    assert second is not None
    os.close(second)


def test_the_system_lets_go_when_a_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = "import sys; from pathlib import Path; from palate.durable import hold\n"
    code += "hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert hold(path) is None
    holder.kill()
    holder.communicate(timeout=30)
    handle = hold(path)
    assert handle is not None
    os.close(handle)


def test_to_look_at_a_lock_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not held(path)
    assert not path.exists()
    handle = hold(path)
    assert handle is not None
    assert held(path)
    os.close(handle)
    assert not held(path)
    handle = hold(path)
    assert handle is not None
    os.close(handle)


def test_turns_are_waited_for_and_end_with_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "new" / "turn"
    path.parent.mkdir()
    other = hold(path)
    assert other is not None
    asked: list[int] = []

    def waiting() -> None:
        asked.append(1)
        if len(asked) == 2:
            os.close(other)

    def work() -> None:
        with turn(path, waiting):
            assert hold(path) is None
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert len(asked) == 2
    with turn(path):
        pass


def test_waiting_for_a_turn_can_be_given_up(tmp_path: Path) -> None:
    other = hold(tmp_path / "turn")
    assert other is not None

    def no() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), turn(tmp_path / "turn", no):
        raise AssertionError
    os.close(other)


def test_a_manifest_that_was_changed_is_found(tmp_path: Path) -> None:
    """Not only by its files: what else it says has a checksum of its own."""
    target = tmp_path / "made"
    commit_folder(target, lambda to: (to / "a").write_text("a") and None, {"step": 6})
    assert verify_folder(target)["step"] == 6
    path = target / "manifest.json"
    path.write_text(path.read_text().replace('"step": 6', '"step": 7'))
    with pytest.raises(Damaged, match=r"manifest\.json does not match its checksum"):
        verify_folder(target)


def test_a_manifest_of_before_it_had_a_checksum_is_read(tmp_path: Path) -> None:
    target = tmp_path / "made"
    commit_folder(target, lambda to: (to / "a").write_text("a") and None, {"step": 6})
    path = target / "manifest.json"
    body = json.loads(path.read_text())
    del body["seal"]
    path.write_text(json.dumps(body))
    assert verify_folder(target) == body
