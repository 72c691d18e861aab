"""A real run, started from the pages; and what the pages and training agree on."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from palate.train import folder as run_folder
from palate.ui.runs import states


def test_to_look_for_a_trainer_is_never_in_a_trainers_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is shared for an instant; the trainer tries again."""
    looking = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(run_folder.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
    os.close(run_folder._lock(tmp_path))
    os.close(looking)


def test_what_an_attempt_leaves_is_what_training_says() -> None:
    assert states.BEGINNINGS == run_folder._BEGINNINGS
