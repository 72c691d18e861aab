"""Memory over a hundred steps and requests: what leaks a step's tensors is far above the bound.

The bound of 1 KiB a step is for the full count, where pools have filled and noise is small. Each
trial has a process of its own: what tests before it have left free there would hide a leak.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUGH = 200.0  # KiB
ROOT = Path(__file__).resolve().parents[2]
TRIAL = """
from pathlib import Path
from palate.machine import calm_threads
calm_threads()
from benchmarks.faults import soak
{before}
print(soak.trial({number}, Path({folder!r}), count={count}, bound={bound}))
"""
LEAK = """
import mmap
kept, real = [], soak.resident
def leaking():
    kept.append(mmap.mmap(-1, 2**20))
    kept[-1].write(b"x" * 2**20)
    return real()
soak.resident = leaking
"""


def run(folder: Path, number: int, count: int, before: str = "") -> tuple[int, str]:
    """A trial's exit code, and what it printed."""
    code = TRIAL.format(number=number, folder=str(folder), count=count, bound=ROUGH, before=before)
    words = [sys.executable, "-c", code]
    # In bf16 each shape of a product has a kernel, and a hundred requests fill no cache of 256.
    few = {"LRU_CACHE_CAPACITY": "8", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=900,
        env=os.environ | few,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [1, 2])
def test_memory_does_not_grow(tmp_path: Path, number: int) -> None:
    code, text = run(tmp_path, number, count=100)
    assert code == 0, text
    assert "'count': 100" in text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_leak_is_seen(tmp_path: Path) -> None:
    code, text = run(tmp_path, 1, count=60, before=LEAK)
    assert code == 1
    assert "AssertionError: memory grows" in text
