from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.resumable import RowLog

SIZES = [2, 2, 1]
SETTINGS = {"seed": 1, "model": "é"}


def a_log(path: Path, groups: int = 3) -> bytes:
    with RowLog(path, SETTINGS, SIZES) as log:
        for group, size in enumerate(SIZES[:groups]):
            log.append([{"n": 10 * group + k, "text": "a\u2028b"} for k in range(size)])
    return path.read_bytes()


def test_rows_come_back(tmp_path: Path) -> None:
    a_log(tmp_path / "a.jsonl")
    with RowLog(tmp_path / "a.jsonl", SETTINGS, SIZES) as log:
        assert [row["n"] for row in log.rows] == [0, 1, 10, 11, 20]


def test_wherever_a_kill_cuts_the_file_whole_groups_remain(tmp_path: Path) -> None:
    whole = a_log(tmp_path / "a.jsonl")
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "b.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        lines = sum(end <= cut for end in ends)
        rows = max(0, lines - 1)
        expected = 5 if rows == 5 else rows // 2 * 2
        with RowLog(path, SETTINGS, SIZES) as log:
            assert len(log.rows) == expected, cut
        assert whole.startswith(path.read_bytes())
        assert path.read_bytes().count(b"\n") == expected + 1


def test_what_a_power_cut_left_of_the_last_group_is_cut_off(tmp_path: Path) -> None:
    """The length of a write can arrive without some of its bytes, which are zero then."""
    path, whole = tmp_path / "a.jsonl", a_log(tmp_path / "a.jsonl", 2)
    for at in range(len(a_log(tmp_path / "b.jsonl", 1)), len(whole) - 5):
        path.write_bytes(whole[:at] + bytes(5) + whole[at + 5 :])
        with RowLog(path, SETTINGS, SIZES) as log:
            assert [row["n"] for row in log.rows] == [0, 1], at
            log.append([{"n": 10}, {"n": 11}])


def test_a_row_that_cannot_be_read_further_up_is_damage(tmp_path: Path) -> None:
    whole = a_log(tmp_path / "a.jsonl", 3)
    (tmp_path / "a.jsonl").write_bytes(whole.replace(b'{"n": 10', b'{"n": \0\0'))
    with pytest.raises(ValueError, match="or damaged: choose another"):
        RowLog(tmp_path / "a.jsonl", SETTINGS, SIZES)


def test_other_settings_are_named(tmp_path: Path) -> None:
    a_log(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r"under other settings \(seed\): give the same settings"):
        RowLog(tmp_path / "a.jsonl", {**SETTINGS, "seed": 2}, SIZES)
    a_log(tmp_path / "a.jsonl", 0)  # and nothing stays locked


def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "p"}) + "\n")
    with pytest.raises(ValueError, match="no file of ours"):
        RowLog(path, SETTINGS, SIZES)
    assert path.read_text() == json.dumps({"prompt": "p"}) + "\n"


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with (
        RowLog(tmp_path / "a.jsonl", SETTINGS, SIZES),
        pytest.raises(ValueError, match="another process is writing"),
    ):
        RowLog(tmp_path / "a.jsonl", SETTINGS, SIZES)
