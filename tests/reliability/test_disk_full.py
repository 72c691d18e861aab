"""Whatever write a full or read-only disk refuses: one line, nothing lost, and it goes on later."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import disk_full, run_few
from benchmarks.faults.attempts import can_build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_build(), reason="needs Linux and gcc"),
]


def test_the_disk_fills_at_the_nth_write(tmp_path: Path) -> None:
    said = [saw["said"] for saw in run_few(disk_full, tmp_path)]
    assert len([one for one in said if one]) >= len(said) - 1, said
