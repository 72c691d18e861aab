"""The spill folder: in order, nothing twice, nothing half."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from palate.web.capture import journal as module
from palate.web.capture.journal import Journal

BIG = 2**30


def _lines(*texts):
    return [text.encode() for text in texts]


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_lines_come_in_order_and_again_until_they_are_settled(tmp_path):
    journal = Journal(tmp_path, BIG)
    journal.append(_lines("a", "b"))
    journal.append(_lines("c"))
    assert journal.take(2, 0) == [(1, b"a"), (2, b"b")]
    taken = journal.take(2, 0)
    assert taken == [(1, b"a"), (2, b"b")]
    journal.settle(taken)
    assert journal.waiting == 1
    assert journal.take(9, 0) == [(3, b"c")]


def test_what_is_settled_is_gone_from_the_disk_and_the_numbers_go_on(tmp_path):
    journal = Journal(tmp_path, BIG)
    journal.append(_lines("secret", "b"))
    journal.settle(journal.take(9, 0))
    assert journal.take(9, 0) == []
    assert _files(tmp_path) == ["000000000003.jsonl"]
    assert (tmp_path / "000000000003.jsonl").read_bytes() == b""
    journal.close()
    again = Journal(tmp_path, BIG)
    again.append(_lines("c"))
    assert again.take(9, 0) == [(3, b"c")]


def test_another_process_goes_on_where_one_died(tmp_path):
    dead = Journal(tmp_path, BIG, segment=4)
    for text in ("aaaa", "bbbb", "cccc"):
        dead.append(_lines(text))
    dead.settle(dead.take(1, 0))
    # Not closed: killed.
    journal = Journal(tmp_path, BIG, segment=4)
    assert journal.waiting == 3 - 1
    journal.append(_lines("dddd"))
    found = []
    while taken := journal.take(9, 0):
        found += taken
        journal.settle(taken)
    assert found == [(2, b"bbbb"), (3, b"cccc"), (4, b"dddd")]
    assert _files(tmp_path) == ["000000000005.jsonl"]


def test_a_line_that_a_crash_cut_is_left_out_and_counted(tmp_path):
    (tmp_path / "000000000007.jsonl").write_bytes(b"a\nb\nhal")
    journal = Journal(tmp_path, BIG)
    assert (journal.waiting, journal.torn) == (2, 1)
    journal.append(_lines("c"))
    taken = journal.take(9, 0)
    assert taken == [(7, b"a"), (8, b"b")]
    journal.settle(taken)
    assert journal.take(9, 0) == [(9, b"c")]


def test_a_segment_of_nothing_but_a_cut_line_begins_anew(tmp_path):
    (tmp_path / "000000000007.jsonl").write_bytes(b"hal")
    journal = Journal(tmp_path, BIG)
    assert (journal.waiting, journal.torn) == (0, 1)
    journal.append(_lines("c"))
    assert journal.take(9, 0) == [(7, b"c")]


def test_a_take_is_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TAKEN", 10)
    journal = Journal(tmp_path, BIG)
    journal.append(_lines("x" * 8, "y" * 8, "z" * 30, "w"))
    sizes = []
    while taken := journal.take(9, 0):
        sizes.append(len(taken))
        journal.settle(taken)
    assert sizes == [2, 1, 1]


def test_the_limit_refuses_and_what_is_there_stays(tmp_path):
    journal = Journal(tmp_path, limit=10)
    journal.append(_lines("12345678"))
    with pytest.raises(OSError, match="spill_limit"):
        journal.append(_lines("x"))
    journal.settle(journal.take(9, 0))
    journal.append(_lines("x"))  # there is room again
    assert journal.take(9, 0) == [(2, b"x")]


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    journal = Journal(tmp_path, BIG)
    journal.append(_lines("a"))
    write = os.write

    def full(handle, data):
        if len(data) > 3:
            return write(handle, bytes(data[:3]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.append(_lines("bbbb"))
    monkeypatch.undo()
    journal.append(_lines("c"))
    assert journal.take(9, 0) == [(1, b"a"), (2, b"c")]


def test_rubble_that_cannot_be_removed_is_left_behind(tmp_path, monkeypatch):
    journal = Journal(tmp_path, BIG)
    journal.append(_lines("a"))

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    monkeypatch.setattr(os, "ftruncate", broken)
    with pytest.raises(OSError, match="Input/output"):
        journal.append(_lines("rubble"))
    monkeypatch.undo()
    journal.append(_lines("c"))
    first = journal.take(9, 0)
    journal.settle(first)
    assert first + journal.take(9, 0) == [(1, b"a"), (2, b"c")]


def test_nothing_is_given_before_it_is_on_the_disk(tmp_path, monkeypatch):
    """`fsync` is the last thing before a line can be seen."""
    journal = Journal(tmp_path, BIG)
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda h: seen.append(journal.waiting) or fsync(h))
    journal.append(_lines("a"))
    assert (seen, journal.waiting) == ([0], 1)


def test_a_reader_that_waits_is_woken(tmp_path):
    journal = Journal(tmp_path, BIG)
    found = []
    reader = threading.Thread(target=lambda: found.extend(journal.take(9, 30)))
    reader.start()
    journal.append(_lines("a"))
    reader.join(10)
    assert found == [(1, b"a")]


def test_only_their_owner_may_read_captures(tmp_path):
    folder = tmp_path / "spill"
    journal = Journal(folder, BIG)
    journal.append(_lines("a"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "000000000001.jsonl").stat().st_mode) == 0o600
