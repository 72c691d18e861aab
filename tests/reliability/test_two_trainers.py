"""One trainer a folder: the second is refused, the first is not harmed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import run_few, two_trainers


@pytest.mark.slow
def test_a_second_trainer_is_refused(tmp_path: Path) -> None:
    saw = list(run_few(two_trainers, tmp_path))
    assert {one["resume"] for one in saw} == {"auto", "never"}
