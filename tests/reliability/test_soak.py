"""Memory over a hundred steps and requests: what leaks a step's tensors is far above the bound.

The bound of 1 KiB a step is for the full count, where pools have filled and noise is small.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.faults import soak

ROUGH = 200.0  # KiB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [1, 2])
def test_memory_does_not_grow(tmp_path: Path, number: int) -> None:
    assert soak.trial(number, tmp_path, count=100, bound=ROUGH)["count"] == 100


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_leak_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytearray] = []
    real = soak.resident

    def leaking() -> int:
        kept.append(bytearray(b"x" * 2**20))
        return real()

    monkeypatch.setattr(soak, "resident", leaking)
    with pytest.raises(AssertionError, match="memory grows"):
        soak.trial(1, tmp_path, count=60, bound=ROUGH)
