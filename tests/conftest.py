"""What every test gets: one thread for each worker, no network, no stray settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.train.starting import Starter

# Before torch is imported anywhere. Workers of xdist share the cores; with a thread pool
# each they would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test that asks a model hub for something is a test that fails on a train.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Reference caches stay inside the tests: `pytestmark = pytest.mark.usefixtures("cache")`."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PALATE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama with a byte tokenizer; tests only read it."""
    from tests.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Starts groups of ranks; everything is imported once for all of them."""
    from tests.train.starting import Starter

    with Starter() as one:
        yield one
