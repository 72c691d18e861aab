"""What was acknowledged outlives a power cut; the layer that shows it does lose the unflushed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from benchmarks.faults import power_cut, run_few
from benchmarks.faults.disk import Cut, compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="recording writes needs gcc, on Linux"),
]


def test_what_a_store_acknowledged(tmp_path: Path) -> None:
    for saw in run_few(power_cut, tmp_path):
        assert saw["rows"]


def test_a_deletion_is_for_good_once_it_was_acknowledged(tmp_path: Path) -> None:
    """SQLite does not flush the cut of its log: the words would be there again."""
    recording = power_cut.written(0).recording
    deletions = [number for number, text in recording.marks if text.startswith("gone ")]
    assert deletions
    for at in deletions:
        left = tmp_path / str(at)
        nothing_more = Cut(random.Random(at), share=0.0, upto=at, sector=512)
        recording.after_cut(at + 1, nothing_more, left)
        power_cut._nothing_deleted_is_left(left, recording.marked_before(at + 1))


def test_a_store_that_flushes_less_is_found_out(tmp_path: Path) -> None:
    """SQLite's usual setting for a write-ahead log keeps the file whole and loses transactions."""
    said = []
    for number in range(1, 11):
        try:
            power_cut.trial(number, tmp_path, synchronous="NORMAL")
        except AssertionError as error:
            said.append(str(error))
    assert any("rows are lost" in text for text in said)
