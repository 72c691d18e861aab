"""The small worlds in which experiments are tested, made once."""

from __future__ import annotations

import pytest

from palate.experiments.ground import REDUCED, REDUCED_ENDS, Ground


@pytest.fixture(scope="session")
def ground() -> Ground:
    """27 answers to each of four prompts."""
    return Ground.of(REDUCED)


@pytest.fixture(scope="session")
def ending() -> Ground:
    """63 answers of none to five symbols."""
    return Ground.of(REDUCED_ENDS)
