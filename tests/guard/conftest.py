"""A guard that was trained once, for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.guard.worlds import prompts, settings, write
from tests.tiny import save_tiny

from palate.guard.settings import Goal, default_recipe
from palate.guard.training import Trained, train_guard
from palate.store.database import Store
from palate.store.importing import import_paths


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Trained:
    home = tmp_path_factory.mktemp("guard")
    data = str(home / "palate.db")
    with Store.open(data) as store:
        import_paths(store, [str(write(home / "labels.jsonl", prompts()))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(home / "cache"))
        config = default_recipe(data, settings(base, home / "runs"))
        return train_guard(config, Goal(recall=0.9))
