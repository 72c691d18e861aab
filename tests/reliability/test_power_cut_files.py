"""What was acknowledged of texts, folders, snapshots, row logs and the spill folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import FEW, power_cut_files, run_few
from benchmarks.faults.disk import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="recording writes needs gcc, on Linux"),
]


def test_what_files_acknowledged(tmp_path: Path) -> None:
    (*_, last) = run_few(power_cut_files, tmp_path, max(20, FEW))
    assert last["acknowledged"] is not None
