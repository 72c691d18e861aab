"""A run that is killed and started again, as often as it takes, is the run it would have been."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import kill, run_few
from benchmarks.faults.attempts import can_build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_build(), reason="needs Linux and gcc"),
]


def test_kill_9_at_a_random_moment(tmp_path: Path) -> None:
    for saw in run_few(kill, tmp_path):
        assert isinstance(saw["kills"], int)
        assert saw["kills"] >= 1
