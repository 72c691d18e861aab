"""A rank that dies, hangs or is slow: a few of the trials that docs/reliability.md counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import ranks, run_few


@pytest.mark.slow
def test_a_rank_dies_hangs_or_is_slow(tmp_path: Path) -> None:
    seen = list(run_few(ranks, tmp_path))
    assert any(saw["codes"] != [0, 0] for saw in seen)
