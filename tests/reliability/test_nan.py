"""What is not finite stops the run, is named, and reaches no weight and no checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import nan, run_few


@pytest.mark.slow
def test_nan_in_the_loss_or_a_gradient(tmp_path: Path) -> None:
    saw = list(run_few(nan, tmp_path))
    assert {one["in"] for one in saw} == {"loss", "gradient"}
