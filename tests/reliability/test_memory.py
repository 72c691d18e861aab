"""A micro-batch that does not fit is split, and the gradient is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import memory, run_few


@pytest.mark.slow
def test_out_of_memory_in_a_random_micro_batch(tmp_path: Path) -> None:
    for saw in run_few(memory, tmp_path):
        assert "of" in str(saw["failed"])
