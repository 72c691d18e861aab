"""The world of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.agreement.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Twelve pairs and six single answers, and no vote but a customer's thumb."""
    made = World(tmp_path)
    yield made
    made.store.close()
