"""A bit that turned, or an end that is missing, is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import flipped, run_few


@pytest.mark.slow
def test_each_kind_of_file_with_one_bit_turned_or_cut(tmp_path: Path) -> None:
    files = [str(saw["file"]) for saw in run_few(flipped, tmp_path)]
    kinds = {file.split("/")[2] if "runs" in file else "cache" for file in files}
    assert kinds == {"cache", "checkpoints", "snapshot"}
