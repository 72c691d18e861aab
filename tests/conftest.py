"""What every test gets: one thread for each worker, no network, no stray settings."""

from __future__ import annotations

import os

# Before torch is imported anywhere. Workers of xdist share the cores; with a thread pool
# each they would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test that asks a model hub for something is a test that fails on a train.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
