"""Bad rows and broken files: nothing is lost silently, and nothing crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import bad_rows, run_few

pytestmark = pytest.mark.slow


def test_each_row_is_a_record_or_a_reject(tmp_path: Path) -> None:
    seen = list(run_few(bad_rows, tmp_path))
    assert any(saw["records"] for saw in seen)
    assert any(saw["rejects"] for saw in seen)
